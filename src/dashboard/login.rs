//! The page to sign in with a token.

use actix_web::{HttpRequest, HttpResponse, web};
use maud::html;

use super::layout::{self, frame};
use super::links::Links;
use super::page::HTML;
use super::routes::PageRoute;

pub(super) fn routes() -> Vec<PageRoute> {
    vec![PageRoute::open("/login", login)]
}

async fn login(request: HttpRequest, links: web::Data<Links>) -> HttpResponse {
    let query: Vec<_> = form_urlencoded::parse(request.query_string().as_bytes()).collect();
    let next = query.iter().find(|(name, _)| name == "next");
    let next = next.map_or("/", |(_, next)| next.as_ref());
    let body = html! {
        form .login method="post" action=(links.path("/login")) {
            label for="token" { "Token" }
            input #token type="password" name="token" autocomplete="current-password" required autofocus;
            input type="hidden" name="next" value=(next);
            button { "Sign in" }
            p { "A token from " code { "tallyhook token create NAME" } "." }
        }
    };
    let page = frame(
        layout::theme(&request),
        &links.path(""),
        "Sign in",
        &html! {},
        &body,
    );
    HttpResponse::Ok()
        .insert_header(HTML)
        .body(page.into_string())
}

//! Style, script and icon, compiled in. Their addresses carry their digest, so that browsers keep
//! them for good.

use std::sync::LazyLock;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse};
use sha2::{Digest, Sha256};

use super::routes::PageRoute;

/// Bytes of the digest in an address.
const DIGEST_BYTES: usize = 6;

/// A file that pages load.
struct Asset {
    name: &'static str,
    media_type: &'static str,
    content: &'static str,
}

const STYLE: Asset = Asset {
    name: "app.css",
    media_type: "text/css; charset=utf-8",
    content: include_str!("assets/app.css"),
};
const SCRIPT: Asset = Asset {
    name: "app.js",
    media_type: "text/javascript; charset=utf-8",
    content: include_str!("assets/app.js"),
};
const ICON: Asset = Asset {
    name: "icon.svg",
    media_type: "image/svg+xml",
    content: include_str!("assets/icon.svg"),
};

static ADDRESSES: LazyLock<[String; 3]> = LazyLock::new(|| [&STYLE, &SCRIPT, &ICON].map(address));

fn address(asset: &Asset) -> String {
    let digest = Sha256::digest(asset.content);
    format!(
        "/assets/{}/{}",
        hex::encode(&digest[..DIGEST_BYTES]),
        asset.name
    )
}

/// Returns the address of the style, below the base.
pub(super) fn style() -> &'static str {
    &ADDRESSES[0]
}

/// Returns the address of the script, below the base.
pub(super) fn script() -> &'static str {
    &ADDRESSES[1]
}

/// Returns the address of the icon, below the base.
pub(super) fn icon() -> &'static str {
    &ADDRESSES[2]
}

pub(super) fn routes() -> Vec<PageRoute> {
    vec![PageRoute::open("/assets/{digest}/{name}", asset)]
}

async fn asset(request: HttpRequest) -> HttpResponse {
    let path = request.path();
    let assets = [&STYLE, &SCRIPT, &ICON].into_iter().zip(ADDRESSES.iter());
    let Some((asset, _)) = assets.into_iter().find(|(_, address)| *address == path) else {
        return HttpResponse::NotFound().finish();
    };
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, asset.media_type))
        .insert_header((CACHE_CONTROL, "public, max-age=31536000, immutable"))
        .body(asset.content)
}

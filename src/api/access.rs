//! The role that each call needs: given where its handler is registered, shown in the OpenAPI
//! document, and checked before the handler runs.

use std::fmt::Debug;

use actix_service::{IntoServiceFactory, ServiceFactory};
use actix_web::dev::{AppService, HttpServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::{Error, HttpRequest};
use serde_json::{Value, json};
use tallyhook_store::AccessRole;
use utoipa::openapi::RefOr;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::{Operation, PathItem, Paths};
use utoipa::openapi::schema::Schema;
use utoipa_actix_web::OpenApiFactory;
use utoipa_actix_web::scope::Scope;

/// The extension of an operation that names its [`CallAccess`].
const EXTENSION: &str = "x-tallyhook-access";
/// The extension of an operation that callers use before they have chosen a team.
const TEAM_EXTENSION: &str = "x-tallyhook-team";
/// The parameter by which a read asks GitHub.
const FRESH: &str = "fresh";

/// The callers that a call admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallAccess {
    /// Requests without a token too.
    Open,
    /// Callers of this role in the team and those above it; an operator's call is of no team.
    Role(AccessRole),
    /// Every caller, also one that has to choose a team or has none.
    AnyTeam,
}

impl CallAccess {
    /// Returns the form of the OpenAPI document.
    pub(super) fn to_json(self) -> Value {
        match self {
            Self::Open => json!({"class": "open", "role": null}),
            Self::Role(AccessRole::Operator) => {
                json!({"class": "instance", "role": AccessRole::Operator})
            }
            Self::Role(role) => json!({"class": "team", "role": role}),
            Self::AnyTeam => json!({"class": "team", "role": AccessRole::Viewer}),
        }
    }

    /// Returns true for a call that may name a team in its path.
    pub(super) fn is_of_team(self) -> bool {
        match self {
            Self::Open => false,
            Self::Role(role) => role != AccessRole::Operator,
            Self::AnyTeam => true,
        }
    }

    /// Reads what [`CallAccess::to_json`] wrote to an operation; none of an operation without it.
    pub(super) fn of_operation(operation: &Value) -> Option<Self> {
        let access = operation.get(EXTENSION)?;
        if operation.get(TEAM_EXTENSION).is_some() {
            return Some(Self::AnyTeam);
        }
        match access["class"].as_str()? {
            "open" => Some(Self::Open),
            _ => serde_json::from_value(access["role"].clone())
                .ok()
                .map(Self::Role),
        }
    }

    /// Returns the role that a request to this call needs: to read fresh from GitHub needs more
    /// than to read what is stored.
    pub(super) fn role_for(self, request: &HttpRequest) -> Option<AccessRole> {
        let role = match self {
            Self::Open => return None,
            Self::Role(role) => role,
            Self::AnyTeam => AccessRole::Viewer,
        };
        let mut query = form_urlencoded::parse(request.query_string().as_bytes());
        let asks_github = query.any(|(name, value)| name == FRESH && value != "false");
        Some(if asks_github {
            role.max(AccessRole::Member)
        } else {
            role
        })
    }

    /// Marks every operation of these paths.
    pub(super) fn mark(self, paths: &mut Paths) {
        for item in paths.paths.values_mut() {
            for operation in operations(item) {
                let mark = ExtensionsBuilder::new().add(EXTENSION, self.to_json());
                let mark = match self {
                    Self::AnyTeam => mark.add(TEAM_EXTENSION, "optional"),
                    Self::Open | Self::Role(_) => mark,
                };
                operation.extensions = Some(mark.build());
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem {
        get,
        put,
        post,
        delete,
        patch,
        ..
    } = item;
    [get, put, post, delete, patch].into_iter().flatten()
}

/// A handler with the access that it needs.
pub(super) struct RestrictedCall<F> {
    access: CallAccess,
    handler: F,
}

impl<F> RestrictedCall<F> {
    pub(super) fn new(access: CallAccess, handler: F) -> Self {
        Self { access, handler }
    }
}

impl<F: HttpServiceFactory> HttpServiceFactory for RestrictedCall<F> {
    fn register(self, config: &mut AppService) {
        self.handler.register(config);
    }
}

impl<F: OpenApiFactory> OpenApiFactory for RestrictedCall<F> {
    fn paths(&self) -> Paths {
        let mut paths = self.handler.paths();
        self.access.mark(&mut paths);
        paths
    }

    fn schemas(&self, schemas: &mut Vec<(String, RefOr<Schema>)>) {
        self.handler.schemas(schemas);
    }
}

/// A scope to which no handler is added without a role.
pub(super) struct RestrictedScope<T>(Scope<T>);

impl<T> RestrictedScope<T>
where
    T: ServiceFactory<ServiceRequest, Config = (), Error = Error, InitError = ()>,
{
    pub(super) fn new(scope: Scope<T>) -> Self {
        Self(scope)
    }

    pub(super) fn viewer(
        self,
        handler: impl HttpServiceFactory + OpenApiFactory + 'static,
    ) -> Self {
        self.add(AccessRole::Viewer, handler)
    }

    pub(super) fn member(
        self,
        handler: impl HttpServiceFactory + OpenApiFactory + 'static,
    ) -> Self {
        self.add(AccessRole::Member, handler)
    }

    pub(super) fn admin(self, handler: impl HttpServiceFactory + OpenApiFactory + 'static) -> Self {
        self.add(AccessRole::Admin, handler)
    }

    pub(super) fn operator(
        self,
        handler: impl HttpServiceFactory + OpenApiFactory + 'static,
    ) -> Self {
        self.add(AccessRole::Operator, handler)
    }

    /// Adds a call of every caller, also of one that has to choose a team or has none.
    pub(super) fn any_team(
        self,
        handler: impl HttpServiceFactory + OpenApiFactory + 'static,
    ) -> Self {
        let call = RestrictedCall::new(CallAccess::AnyTeam, handler);
        Self(self.0.service(call))
    }

    fn add(
        self,
        role: AccessRole,
        handler: impl HttpServiceFactory + OpenApiFactory + 'static,
    ) -> Self {
        let call = RestrictedCall::new(CallAccess::Role(role), handler);
        Self(self.0.service(call))
    }

    /// Returns the scope with the handler of all other requests.
    pub(super) fn otherwise<F, U>(self, handler: F) -> Scope<T>
    where
        F: IntoServiceFactory<U, ServiceRequest>,
        U: ServiceFactory<ServiceRequest, Config = (), Response = ServiceResponse, Error = Error>
            + 'static,
        U::InitError: Debug,
    {
        self.0.default_service(handler)
    }
}

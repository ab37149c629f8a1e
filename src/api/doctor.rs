//! The checks of `tallyhook doctor`, made by a running server.

use actix_web::{post, web};
use chrono::Utc;
use serde::Serialize;
use tallyhook_core::github::types::Timestamp;
use utoipa::ToSchema;

use super::ApiState;
use super::error::{ApiError, ApiErrorBody};
use crate::doctor::{CheckState, Finding, examine_server};

/// The results of all checks.
#[derive(Debug, Serialize, ToSchema)]
pub struct DoctorReport {
    pub as_of: Timestamp,
    /// The number of checks that found something wrong.
    pub wrong: u64,
    /// The number of those that found something that works, but not well or not for long.
    pub warnings: u64,
    pub items: Vec<Finding>,
}

impl ApiState {
    /// Answers as `POST /api/doctor`.
    ///
    /// # Errors
    /// [`ApiError::Busy`] while the checks run for another caller.
    pub(crate) async fn doctor(&self) -> Result<DoctorReport, ApiError> {
        let running = "the checks are running already; try again in half a minute";
        let _running = self
            .examining
            .try_lock()
            .map_err(|_| ApiError::Busy(running))?;
        let items = examine_server(&self.config, &self.store).await;
        let count = |state| items.iter().filter(|item| item.state == state).count() as u64;
        Ok(DoctorReport {
            as_of: Utc::now().into(),
            wrong: count(CheckState::Wrong),
            warnings: count(CheckState::Warning),
            items,
        })
    }
}

/// Checks the settings, this server's machine and services, and GitHub, as `tallyhook doctor` does.
/// It takes up to half a minute, and sends requests to GitHub.
#[utoipa::path(
    tag = "health", operation_id = "run_doctor", security(("token" = [])),
    responses(
        (status = 200, body = DoctorReport),
        (status = 503, body = ApiErrorBody, description = "the checks are running already"),
    )
)]
#[post("/doctor")]
pub(super) async fn examine(api: web::Data<ApiState>) -> Result<web::Json<DoctorReport>, ApiError> {
    Ok(web::Json(api.doctor().await?))
}

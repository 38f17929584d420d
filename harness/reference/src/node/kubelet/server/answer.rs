//! What the server says when it cannot do what was asked: a Kubernetes `Status`, which clients know how to show.

use std::sync::Arc;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::node::kubelet::registry::{Absent, ContainerEntry, Registry};

/// A refused request.
pub fn refusal(code: StatusCode, reason: &str, message: &str) -> Response {
    let status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code.as_u16(),
    });
    (code, Json(status)).into_response()
}

/// Finds a container, or says what is not there.
pub fn find(
    registry: &Registry,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Result<Arc<ContainerEntry>, Box<Response>> {
    let refused = |absent| match absent {
        Absent::Pod => {
            refusal(StatusCode::NOT_FOUND, "NotFound", &format!("pod \"{pod}\" does not exist on this node"))
        }
        Absent::Container => container_not_found(container),
    };
    registry.find(namespace, pod, container).map_err(|absent| Box::new(refused(absent)))
}

pub fn container_not_found(container: &str) -> Response {
    refusal(StatusCode::NOT_FOUND, "NotFound", &format!("container not found (\"{container}\")"))
}

/// How a program in a container ended, for the status channel.
pub fn outcome(exit_code: i32) -> Value {
    if exit_code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit status {exit_code}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": exit_code.to_string()}]},
    })
}

/// A program that could not be started, for the status channel.
pub fn not_started(problem: &str) -> Value {
    let text = format!(
        "error executing command in container: failed to exec in container: OCI runtime exec failed: exec failed: \
         unable to start container process: {problem}: unknown"
    );
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: {text}"),
        "reason": "InternalError",
        "details": {"causes": [{"message": text}]},
        "code": 500,
    })
}

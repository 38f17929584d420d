//! Tables: what `kubectl get` prints, computed here as the real server computes it.
//! Owns the columns of each kind and the wording of ages; knows nothing of requests or the store.

mod cells;
mod pod;

use jiff::Timestamp;
use serde_json::{Value, json};

/// Which set of columns a kind is printed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Columns {
    /// Name and age, as for a custom resource without printer columns.
    Plain,
    ConfigMap,
    DaemonSet,
    Deployment,
    EndpointSlice,
    Endpoints,
    Event,
    Lease,
    Namespace,
    NetworkPolicy,
    Node,
    Pod,
    ReplicaSet,
    Secret,
    Service,
    ServiceAccount,
    ServiceCidr,
}

/// How much of the object each row carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Include {
    None,
    Metadata,
    Object,
}

/// A column: name, type, priority (1 is shown with `-o wide` only), description.
type Column = (&'static str, &'static str, u8, &'static str);

const NAME: Column = ("Name", "string", 0, "Name, unique among the objects of this kind in its namespace");
const AGE: Column = ("Age", "string", 0, "Time since the object was created");
const CONTAINERS: Column = ("Containers", "string", 1, "Names of the containers of the template");
const IMAGES: Column = ("Images", "string", 1, "Images of the containers of the template");
const SELECTOR: Column = ("Selector", "string", 1, "Labels of the pods it is about");

impl Columns {
    fn columns(self) -> &'static [Column] {
        match self {
            Self::Plain => &[NAME, ("Age", "date", 0, "Time since the object was created")],
            Self::ConfigMap => &[NAME, ("Data", "string", 0, "Number of entries"), AGE],
            Self::DaemonSet => &[
                NAME,
                ("Desired", "integer", 0, "Nodes that should run the pod"),
                ("Current", "integer", 0, "Nodes that run it and should"),
                ("Ready", "integer", 0, "Nodes whose pod is ready"),
                ("Up-to-date", "integer", 0, "Nodes that run the newest template"),
                ("Available", "integer", 0, "Nodes whose pod has been ready long enough"),
                ("Node Selector", "string", 0, "Labels of the nodes it is for"),
                AGE,
                CONTAINERS,
                IMAGES,
                SELECTOR,
            ],
            Self::Deployment => &[
                NAME,
                ("Ready", "string", 0, "Ready pods of those wanted"),
                ("Up-to-date", "string", 0, "Pods of the newest template"),
                ("Available", "string", 0, "Pods that have been ready long enough"),
                AGE,
                CONTAINERS,
                IMAGES,
                SELECTOR,
            ],
            Self::EndpointSlice => &[
                NAME,
                ("AddressType", "string", 0, "Family of the addresses"),
                ("Ports", "string", 0, "Ports of every endpoint"),
                ("Endpoints", "string", 0, "Addresses"),
                AGE,
            ],
            Self::Endpoints => &[NAME, ("Endpoints", "string", 0, "Addresses with their ports"), AGE],
            Self::Event => &[
                ("Last Seen", "string", 0, "Time since it last happened"),
                ("Type", "string", 0, "Normal or Warning"),
                ("Reason", "string", 0, "Why, in one word"),
                ("Object", "string", 0, "What it is about"),
                ("Subobject", "string", 1, "The part of the object it is about"),
                ("Source", "string", 1, "Who told it"),
                ("Message", "string", 0, "What happened"),
                ("First Seen", "string", 1, "Time since it first happened"),
                ("Count", "integer", 1, "How often it happened"),
                ("Name", "string", 1, "Name of the event itself"),
            ],
            Self::Lease => &[NAME, ("Holder", "string", 0, "Who holds it"), AGE],
            Self::Namespace => &[NAME, ("Status", "string", 0, "Phase of its life"), AGE],
            Self::NetworkPolicy => &[NAME, ("Pod-Selector", "string", 0, "Labels of the pods it applies to"), AGE],
            Self::Node => &[
                NAME,
                ("Status", "string", 0, "Whether it is ready"),
                ("Roles", "string", 0, "Its roles"),
                AGE,
                ("Version", "string", 0, "Version of its kubelet"),
                ("Internal-IP", "string", 1, "Address inside the cluster"),
                ("External-IP", "string", 1, "Address outside the cluster"),
                ("OS-Image", "string", 1, "Its operating system"),
                ("Kernel-Version", "string", 1, "Its kernel"),
                ("Container-Runtime", "string", 1, "Its container runtime"),
            ],
            Self::Pod => &[
                NAME,
                ("Ready", "string", 0, "Ready containers of all"),
                ("Status", "string", 0, "What its containers are doing"),
                ("Restarts", "string", 0, "How often its containers were started again"),
                AGE,
                ("IP", "string", 1, "Its address"),
                ("Node", "string", 1, "Where it runs"),
                ("Nominated Node", "string", 1, "Where it is to run once others have left"),
                ("Readiness Gates", "string", 1, "Conditions that its readiness waits for"),
            ],
            Self::ReplicaSet => &[
                NAME,
                ("Desired", "integer", 0, "Pods wanted"),
                ("Current", "integer", 0, "Pods that exist"),
                ("Ready", "integer", 0, "Pods that are ready"),
                AGE,
                CONTAINERS,
                IMAGES,
                SELECTOR,
            ],
            Self::Secret => {
                &[NAME, ("Type", "string", 0, "What it is for"), ("Data", "string", 0, "Number of entries"), AGE]
            }
            Self::Service => &[
                NAME,
                ("Type", "string", 0, "How it is exposed"),
                ("Cluster-IP", "string", 0, "Its address inside the cluster"),
                ("External-IP", "string", 0, "Its addresses outside the cluster"),
                ("Port(s)", "string", 0, "Its ports"),
                AGE,
                SELECTOR,
            ],
            Self::ServiceAccount => &[NAME, ("Secrets", "string", 0, "Number of secrets"), AGE],
            Self::ServiceCidr => &[NAME, ("CIDRs", "string", 0, "Blocks from which services get addresses"), AGE],
        }
    }

    /// The `columnDefinitions` of a Table.
    pub fn definitions(self) -> Value {
        self.columns()
            .iter()
            .map(|(name, kind, priority, description)| {
                let format = if *name == "Name" && *priority == 0 { "name" } else { "" };
                json!({ "name": name, "type": kind, "format": format, "description": description, "priority": priority })
            })
            .collect()
    }

    fn cells(self, object: &Value, now: Timestamp) -> Vec<Value> {
        let age = json!(age(object, now));
        match self {
            Self::Pod => pod::cells(object, now),
            Self::Event => cells::event(object, now),
            _ => cells::of(self, object, age),
        }
    }

    /// One row.
    pub fn row(self, object: &Value, include: Include, now: Timestamp) -> Value {
        let mut row = json!({ "cells": self.cells(object, now) });
        match include {
            Include::None => {}
            Include::Metadata => row["object"] = partial(object),
            Include::Object => row["object"] = object.clone(),
        }
        row
    }
}

/// A Table of `objects`; `meta` is the list's metadata.
pub fn table<'a>(
    columns: Columns,
    objects: impl Iterator<Item = &'a Value>,
    meta: Value,
    include: Include,
    now: Timestamp,
) -> Value {
    let rows: Vec<Value> = objects.map(|object| columns.row(object, include, now)).collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta,
        "columnDefinitions": columns.definitions(), "rows": rows,
    })
}

/// An object's metadata alone.
pub fn partial(object: &Value) -> Value {
    json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"] })
}

/// Time since creation in words.
fn age(object: &Value, now: Timestamp) -> String {
    since(&object["metadata"]["creationTimestamp"], now)
}

fn since(time: &Value, now: Timestamp) -> String {
    match time.as_str().and_then(|text| text.parse::<Timestamp>().ok()) {
        Some(then) => duration(now.duration_since(then).as_secs()),
        None => "<unknown>".to_owned(),
    }
}

/// A duration in the words of `kubectl`: one or two units, coarser as it grows.
pub fn duration(seconds: i64) -> String {
    let minutes = seconds / 60;
    let hours = minutes / 60;
    let two = |large: i64, unit: &str, small: i64, sub: &str| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{sub}") }
    };
    match seconds {
        i64::MIN..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 24 * 8 => two(hours / 24, "d", hours % 24, "h"),
        _ if hours < 24 * 365 * 2 => format!("{}d", hours / 24),
        _ if hours < 24 * 365 * 8 => two(hours / 24 / 365, "y", hours / 24 % 365, "d"),
        _ => format!("{}y", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(-5, "<invalid>")]
    #[case(0, "0s")]
    #[case(68, "68s")]
    #[case(120, "2m")]
    #[case(150, "2m30s")]
    #[case(3600, "60m")]
    #[case(3 * 3600 + 60, "3h1m")]
    #[case(9 * 3600, "9h")]
    #[case(49 * 3600, "2d1h")]
    #[case(30 * 86400, "30d")]
    fn ages_read_as_kubectl_writes_them(#[case] seconds: i64, #[case] expected: &str) {
        assert_eq!(duration(seconds), expected);
    }
}

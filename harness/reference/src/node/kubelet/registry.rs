//! Which containers are on the node now and how to reach them: what the streaming server looks up.
//!
//! Pods write their own entry; nobody decides anything here.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use cknet_kernel::sandbox::Sandbox;

use super::console::Console;
use super::environment::Variables;
use super::logs::capture::LogBook;

/// One container of a pod, shared by its runner (which writes) and the server (which reads).
#[derive(Debug, Default)]
pub struct ContainerEntry {
    state: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    running: Option<Running>,
    console: Option<Arc<Console>>,
    /// Why there is nothing to see yet.
    waiting: String,
    log: Option<Arc<LogBook>>,
    previous: Option<Arc<LogBook>>,
}

/// What it takes to start something beside a running container.
#[derive(Clone, Debug)]
pub struct Running {
    pub sandbox: Sandbox,
    pub variables: Variables,
    pub folder: Option<String>,
    pub executable: PathBuf,
}

impl ContainerEntry {
    fn with<T>(&self, look: impl FnOnce(&mut Inside) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn runs(&self, running: Running) {
        self.with(|inside| inside.running = Some(running));
    }

    pub fn stopped(&self) {
        self.with(|inside| (inside.running, inside.console) = (None, None));
    }

    /// What its process is typed at with.
    pub fn typed_at_with(&self, console: Option<Arc<Console>>) {
        self.with(|inside| inside.console = console);
    }

    pub fn console(&self) -> Option<Arc<Console>> {
        self.with(|inside| inside.console.clone())
    }

    pub fn waits(&self, reason: &str) {
        self.with(|inside| inside.waiting = reason.into());
    }

    /// A new attempt has its own log; the one before stays readable.
    pub fn logs_to(&self, log: Arc<LogBook>) {
        self.with(|inside| inside.previous = inside.log.replace(log));
    }

    pub fn running(&self) -> Option<Running> {
        self.with(|inside| inside.running.clone())
    }

    pub fn waiting(&self) -> String {
        self.with(|inside| inside.waiting.clone())
    }

    pub fn log(&self) -> Option<Arc<LogBook>> {
        self.with(|inside| inside.log.clone())
    }

    pub fn previous_log(&self) -> Option<Arc<LogBook>> {
        self.with(|inside| inside.previous.clone())
    }
}

/// The containers of one pod by name.
pub type Containers = HashMap<String, Arc<ContainerEntry>>;

#[derive(Debug)]
struct PodEntry {
    uid: String,
    containers: Containers,
}

/// All pods by namespace and name.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    pods: Arc<RwLock<HashMap<(String, String), PodEntry>>>,
}

/// What was looked for and not found.
#[derive(Debug, PartialEq, Eq)]
pub enum Absent {
    Pod,
    Container,
}

impl Registry {
    pub fn enter(&self, namespace: &str, name: &str, uid: &str, containers: Containers) {
        let entry = PodEntry { uid: uid.into(), containers };
        let mut pods = self.pods.write().unwrap_or_else(PoisonError::into_inner);
        pods.insert((namespace.into(), name.into()), entry);
    }

    /// Takes a pod out, unless another one has taken its name since.
    pub fn leave(&self, namespace: &str, name: &str, uid: &str) {
        let key = (namespace.to_string(), name.to_string());
        let mut pods = self.pods.write().unwrap_or_else(PoisonError::into_inner);
        if pods.get(&key).is_some_and(|entry| entry.uid == uid) {
            pods.remove(&key);
        }
    }

    pub fn find(&self, namespace: &str, name: &str, container: &str) -> Result<Arc<ContainerEntry>, Absent> {
        let pods = self.pods.read().unwrap_or_else(PoisonError::into_inner);
        let pod = pods.get(&(namespace.into(), name.into())).ok_or(Absent::Pod)?;
        pod.containers.get(container).cloned().ok_or(Absent::Container)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_successor_of_the_same_name_is_not_taken_out_by_its_predecessor() {
        let registry = Registry::default();
        let containers = || Containers::from([("c".to_string(), Arc::default())]);
        registry.enter("shop", "web", "u-1", containers());
        registry.enter("shop", "web", "u-2", containers());
        registry.leave("shop", "web", "u-1");
        assert!(registry.find("shop", "web", "c").is_ok());
        assert_eq!(registry.find("shop", "web", "d").unwrap_err(), Absent::Container);
        registry.leave("shop", "web", "u-2");
        assert_eq!(registry.find("shop", "web", "c").unwrap_err(), Absent::Pod);
    }
}

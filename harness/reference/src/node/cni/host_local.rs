//! The IPAM plugin `host-local`: one file per address that is given out, in a folder of the node. Nobody outside of the
//! node knows of it, and no other node hears which addresses are here.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use serde_json::{Map, Value};

/// Where the files lie unless `dataDir` says otherwise. The real default is /var/lib/cni/networks; nodes of this
/// distribution have no /var of their own.
const DATA: &str = "/run/cni/networks";

/// The name of the file with the address that was given out last.
const LAST: &str = "last_reserved_ip.0";

/// The addresses of one network on one node.
#[derive(Clone, Debug)]
pub struct HostLocal {
    folder: PathBuf,
    pub subnet: Ipv4Net,
}

/// Why no address can be given out.
#[derive(Debug, thiserror::Error)]
pub enum HostLocalError {
    #[error("no IP ranges specified")]
    NoRange,
    #[error("invalid subnet `{0}`")]
    Subnet(String),
    #[error("failed to allocate for range 0: no IP addresses available in range set: {0}-{1}")]
    Exhausted(Ipv4Addr, Ipv4Addr),
    #[error("cannot keep the addresses in `{path}`: {cause}")]
    Folder { path: String, cause: io::Error },
}

impl HostLocal {
    /// What `ipam` of a configuration says; `node` is what `usePodCidr` stands for.
    pub fn of(network: &str, ipam: &Map<String, Value>, node: Option<Ipv4Net>) -> Result<Self, HostLocalError> {
        let range = ipam.get("ranges").and_then(|ranges| ranges.pointer("/0/0/subnet"));
        let subnet = range.or_else(|| ipam.get("subnet")).and_then(Value::as_str).ok_or(HostLocalError::NoRange)?;
        let subnet = match (subnet, node) {
            ("usePodCidr", Some(own)) => own,
            (text, _) => text.parse().map_err(|_| HostLocalError::Subnet(text.to_string()))?,
        };
        let data = ipam.get("dataDir").and_then(Value::as_str).unwrap_or(DATA);
        Ok(Self { folder: Path::new(data).join(network), subnet: subnet.trunc() })
    }

    /// The first address: the node's own on a bridge, never given out.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.subnet.network()) + 1)
    }

    /// The next free address after the one that was given out last.
    pub fn assign(&self, container: &str) -> Result<Ipv4Addr, HostLocalError> {
        let failed = |cause| HostLocalError::Folder { path: self.folder.display().to_string(), cause };
        fs::create_dir_all(&self.folder).map_err(failed)?;
        let first = u32::from(self.gateway()) + 1;
        let last = u32::from(self.subnet.broadcast()).saturating_sub(1);
        let before = fs::read_to_string(self.folder.join(LAST)).ok().and_then(|text| text.trim().parse().ok());
        let start = before.map_or(first, |address: Ipv4Addr| u32::from(address) + 1);
        let start = if (first..=last).contains(&start) { start } else { first };
        for number in (start..=last).chain(first..start) {
            let address = Ipv4Addr::from(number);
            let file = fs::File::options().write(true).create_new(true).open(self.folder.join(address.to_string()));
            match file {
                Ok(mut file) => {
                    io::Write::write_all(&mut file, format!("{container}\neth0").as_bytes()).map_err(failed)?;
                    fs::write(self.folder.join(LAST), address.to_string()).map_err(failed)?;
                    return Ok(address);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(HostLocalError::Exhausted(self.gateway(), Ipv4Addr::from(last)))
    }
}

/// Gives back every address of a container, whatever network it is of; none is no failure.
pub fn release(container: &str) -> io::Result<()> {
    release_in(Path::new(DATA), container)
}

fn release_in(data: &Path, container: &str) -> io::Result<()> {
    let networks = match fs::read_dir(data) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for network in networks {
        for file in fs::read_dir(network?.path())? {
            let path = file?.path();
            let owner = fs::read_to_string(&path).unwrap_or_default();
            if owner.lines().next() == Some(container) {
                fs::remove_file(&path)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn store(folder: &Path, ipam: Value, node: Option<&str>) -> Result<HostLocal, HostLocalError> {
        let mut ipam = ipam.as_object().unwrap().clone();
        ipam.insert("dataDir".into(), json!(folder));
        HostLocal::of("net", &ipam, node.map(|node| node.parse().unwrap()))
    }

    #[test]
    fn addresses_go_round_and_the_gateway_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), json!({"subnet": "10.244.1.0/29"}), None).unwrap();
        assert_eq!(store.gateway().to_string(), "10.244.1.1");
        let given: Vec<String> = (2..=6).map(|number| store.assign(&number.to_string()).unwrap().to_string()).collect();
        assert_eq!(given, ["10.244.1.2", "10.244.1.3", "10.244.1.4", "10.244.1.5", "10.244.1.6"]);
        let full = store.assign("7").unwrap_err().to_string();
        assert_eq!(
            full,
            "failed to allocate for range 0: no IP addresses available in range set: 10.244.1.1-10.244.1.6"
        );
        release_in(folder.path(), "3").unwrap();
        assert_eq!(store.assign("8").unwrap().to_string(), "10.244.1.3");
    }

    #[test]
    fn the_subnet_may_be_the_nodes_own() {
        let folder = tempfile::tempdir().unwrap();
        let ranges = json!({"ranges": [[{"subnet": "usePodCidr"}]]});
        let own = store(folder.path(), ranges.clone(), Some("10.42.3.0/24")).unwrap();
        assert_eq!(own.assign("a").unwrap().to_string(), "10.42.3.2");
        assert!(matches!(store(folder.path(), ranges, None), Err(HostLocalError::Subnet(_))));
        assert!(matches!(store(folder.path(), json!({}), None), Err(HostLocalError::NoRange)));
    }
}

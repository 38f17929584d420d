//! Asks the kernel, in the namespace that is meant, and puts the answers together.

use std::io;
use std::path::PathBuf;

use cknet_kernel::ns::NetNs;
use cknet_kernel::offload::computes_checksums;
use futures::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::{Handle, IpVersion};

use super::links::{LinkNames, link};
use super::routes::{fdb, neighbour, route};
use super::rules::rule;
use super::{Address, Facts, Kind, Options, files, sockets};
use crate::netns;

/// Facts could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    #[error("cannot open the network namespace `{word}`: {source}")]
    Namespace { word: String, source: io::Error },
    #[error("cannot ask the kernel for {what}: {source}")]
    Netlink { what: &'static str, source: rtnetlink::Error },
    #[error("cannot read `{path}`: {source}", path = .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("cannot collect facts: {0}")]
    Io(#[from] io::Error),
}

/// Collects what `options` asks for. Blocks the calling thread and must not be called from within a tokio runtime.
pub fn collect(options: &Options) -> Result<Facts, FactsError> {
    let word = options.netns.as_deref().unwrap_or("self");
    let namespace = netns::open(word).map_err(|source| FactsError::Namespace { word: word.into(), source })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut facts = runtime.block_on(over_netlink(&namespace, options))?;
    if !facts.links.is_empty() {
        let links = &mut facts.links;
        namespace
            .run(|| links.iter_mut().for_each(|link| link.checksum_offload = computes_checksums(&link.name).ok()))?;
    }
    if options.wants(Kind::Listening) {
        facts.listening = namespace.run(sockets::listening)??;
    }
    if options.wants(Kind::Files) {
        facts.files = files::tell(&options.files)?;
    }
    Ok(facts)
}

async fn over_netlink(namespace: &NetNs, options: &Options) -> Result<Facts, FactsError> {
    let handle = namespace.netlink()?;
    let links = handle.link().get().execute().try_collect::<Vec<_>>().await.map_err(failed("links"))?;
    let names = LinkNames::of(&links);
    let mut facts = Facts::default();
    if options.wants(Kind::Links) {
        facts.links = links.iter().map(|message| link(message, &names)).collect();
    }
    if options.wants(Kind::Addresses) {
        let found: Vec<_> = handle.address().get().execute().try_collect().await.map_err(failed("addresses"))?;
        facts.addresses = found.iter().filter_map(|message| address(message, &names)).collect();
    }
    if options.wants(Kind::Routes) {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let found = routes_of(&handle, family).await?;
            facts.routes.extend(found.iter().filter_map(|message| route(message, &names)));
        }
    }
    if options.wants(Kind::Rules) {
        for version in [IpVersion::V4, IpVersion::V6] {
            let found: Vec<_> = handle.rule().get(version).execute().try_collect().await.map_err(failed("rules"))?;
            facts.rules.extend(found.iter().map(rule));
        }
    }
    if options.wants(Kind::Neighbours) {
        let found: Vec<_> = handle.neighbours().get().execute().try_collect().await.map_err(failed("neighbours"))?;
        facts.neighbours = found.iter().filter_map(|message| neighbour(message, &names)).collect();
    }
    if options.wants(Kind::Fdb) {
        let request = handle.neighbours().get().set_address_family(AddressFamily::Bridge);
        let found: Vec<_> = request.execute().try_collect().await.map_err(failed("forwarding entries"))?;
        facts.fdb = found.iter().filter_map(|message| fdb(message, &names)).collect();
    }
    Ok(facts)
}

async fn routes_of(handle: &Handle, family: AddressFamily) -> Result<Vec<RouteMessage>, FactsError> {
    let mut wanted = RouteMessage::default();
    wanted.header.address_family = family;
    handle.route().get(wanted).execute().try_collect().await.map_err(failed("routes"))
}

fn failed(what: &'static str) -> impl FnOnce(rtnetlink::Error) -> FactsError {
    move |source| FactsError::Netlink { what, source }
}

fn address(message: &AddressMessage, names: &LinkNames) -> Option<Address> {
    let (mut local, mut remote) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => remote = Some(*ip),
            _ => {}
        }
    }
    // IPv6 has only `Address`, for its own; IPv4 has both, and `Address` is the other end.
    let own = local.or(remote)?;
    Some(Address {
        link: names.name(message.header.index),
        address: ipnet::IpNet::new(own, message.header.prefix_len).ok()?,
        peer: remote.filter(|remote| *remote != own),
        scope: message.header.scope.to_string(),
    })
}

//! Whether this kernel can make what a cluster is made of, found out by making each thing once in namespaces that end
//! with the process. Names of kernel options are those of the kernel's Kconfig files.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use cknet_kernel::link::{Netlink, VethEnd, Vxlan};
use cknet_kernel::nft::{Batch, Family, Nft};
use cknet_kernel::ns::NetNs;
use cknet_kernel::space;

/// A thing that could not be made: its name, the kernel's answer, and the option or module that brings it.
type Missing = (&'static str, String, &'static str);

/// Tries everything; one line per missing thing, its three parts separated by tabs.
pub fn report() -> io::Result<String> {
    space::keep_mounts_private()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut missing = runtime.block_on(links())?;
    let mut batch = Batch::new();
    batch.add_table(Family::Inet, "trial");
    if let Err(refusal) = Nft::open().and_then(|mut nft| nft.send(batch)) {
        missing.push(("nf_tables", refusal.to_string(), "modprobe nf_tables (CONFIG_NF_TABLES)"));
    }
    if let Err(refusal) = space::mount_memory(Path::new("/tmp"), "size=1m") {
        missing.push(("tmpfs", refusal.to_string(), "a kernel with CONFIG_TMPFS"));
    }
    Ok(missing.iter().map(|(what, answer, fix)| format!("{what}\t{answer}\t{fix}\n")).collect())
}

async fn links() -> io::Result<Vec<Missing>> {
    let here = NetNs::current()?;
    let there = NetNs::create()?;
    let netlink = Netlink::open(&here)?;
    let mut missing = Vec::new();
    if let Err(refusal) = netlink.add_bridge("trial-bridge").await {
        missing.push(("bridge", refusal.cause.to_string(), "modprobe bridge (CONFIG_BRIDGE)"));
    }
    let end = |name| VethEnd { name, mac: None, mtu: 1500 };
    if let Err(refusal) = netlink.add_veth(&end("trial-near"), &end("trial-far"), there.as_fd()).await {
        missing.push(("veth", refusal.cause.to_string(), "modprobe veth (CONFIG_VETH)"));
    }
    let parent = netlink.link("trial-near").await.ok().flatten().map_or(0, |link| link.index);
    let device = Vxlan {
        name: "trial-vxlan",
        vni: 4096,
        port: 4789,
        local: std::net::Ipv4Addr::LOCALHOST,
        parent,
        mac: [0x66, 0, 0, 0, 0, 1],
        mtu: 1450,
    };
    if let Err(refusal) = netlink.add_vxlan(&device).await {
        missing.push(("vxlan", refusal.cause.to_string(), "modprobe vxlan (CONFIG_VXLAN)"));
    }
    Ok(missing)
}

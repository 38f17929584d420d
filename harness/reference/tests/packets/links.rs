//! The links of pods: made, taken away, and whose they are.

use std::net::Ipv4Addr;

use cknet_kernel::link::Netlink;
use cknet_kernel::ns::NetNs;
use cknet_reference::node::cni::plumbing;

pub const TRIALS: &[(&str, fn())] =
    &[("a pod that is late to go leaves the link of its successor alone", a_pod_that_is_late_to_go)];

/// Both pods have the same name, and so the same interface on the node.
fn a_pod_that_is_late_to_go() {
    let (node, first, second) = (NetNs::create().unwrap(), NetNs::create().unwrap(), NetNs::create().unwrap());
    let has_link = |pod: &NetNs, runtime: &tokio::runtime::Runtime| {
        runtime.block_on(async { Netlink::open(pod).unwrap().link("eth0").await.unwrap().is_some() })
    };
    node.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connect = |pod, last| {
            let address = Ipv4Addr::new(10, 1, 0, last);
            runtime.block_on(plumbing::connect(pod, "cali0", address, 1450)).unwrap();
        };
        connect(&first, 5);
        assert!(has_link(&first, &runtime));
        connect(&second, 6);
        assert!(!has_link(&first, &runtime) && has_link(&second, &runtime), "the name is the newer one's");
        runtime.block_on(plumbing::disconnect(&first)).unwrap();
        assert!(has_link(&second, &runtime), "the older one took the newer one's link away");
        runtime.block_on(plumbing::disconnect(&second)).unwrap();
        assert!(!has_link(&second, &runtime));
    })
    .unwrap();
}

//! Who gets a node's address as its source: pods that talk to the world outside, and the node itself when it talks
//! into the overlay with an address that the other end cannot answer to.

use cknet_kernel::nft::{AddressType, Base, Chain, FibAddress, Field, Hook, Rule, priority};

use super::compile::Options;
use super::world::World;

pub(super) fn chain(world: &World, options: &Options) -> Chain {
    let pools = || world.pools.iter().filter(|pool| options.version.includes(pool.cidr.addr()));
    let mut chain = Chain::base("nat-POSTROUTING", Base::nat(Hook::Postrouting, priority::SNAT));
    for pool in pools().filter(|pool| pool.nat_outgoing) {
        let rule = Rule::new().saddr_in(pool.cidr);
        let rule = pools().fold(rule, |rule, other| rule.daddr_not_in(other.cidr));
        chain.push(rule.masquerade().comment(format!("natOutgoing of {}", pool.cidr)));
    }
    if options.vxlan_port.is_some() {
        // The source is an address of ours, but not of the overlay's device: chosen before a service was translated.
        let on_device = Field::AddressType { address: FibAddress::Source, on_interface: true };
        chain.push(
            Rule::new()
                .oifname(&options.vxlan_device)
                .is_not(on_device, AddressType::Local)
                .address_type(FibAddress::Source, AddressType::Local)
                .masquerade()
                .comment("from this node into the overlay"),
        );
    }
    chain
}

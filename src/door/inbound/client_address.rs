//! Who is asking: the socket's peer, or, when the peer is a proxy that the settings trust, whom that proxy
//! names. Pure.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The client's address. `forwarded_for` is the text of all `X-Forwarded-For` lines in their order, separated
/// by commas. It is read from the right, since a proxy appends: whatever stands left of the first address that
/// is no trusted proxy was written by a stranger.
pub fn client_address(peer: IpAddr, forwarded_for: &str, trusted_proxies: &[IpAddr]) -> IpAddr {
    if !trusted_proxies.contains(&peer) {
        return peer;
    }
    for entry in forwarded_for.rsplit(',') {
        match address(entry.trim()) {
            None => return peer,
            Some(client) if !trusted_proxies.contains(&client) => return client,
            Some(_) => {}
        }
    }
    peer
}

/// `address` with an IPv4 address that came in IPv6 clothes (`::ffff:1.2.3.4`) undressed.
pub fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// What one client can hold: an IPv4 address, or the /64 that an IPv6 client is given as a whole.
pub fn holder(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() >> 64 << 64)),
    }
}

fn address(entry: &str) -> Option<IpAddr> {
    // Some proxies add the port.
    let parsed =
        entry.parse().ok().or_else(|| entry.parse().ok().map(|with_port: SocketAddr| with_port.ip()));
    parsed.map(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let trusted: Vec<IpAddr> =
            ["127.0.0.1", "::1", "10.0.0.2"].map(|text| text.parse().unwrap()).to_vec();
        for (peer, header, client) in [
            ("203.0.113.9", "198.51.100.7", "203.0.113.9"),
            ("127.0.0.1", "198.51.100.7", "198.51.100.7"),
            ("::1", "6.6.6.6, 198.51.100.7", "198.51.100.7"),
            ("127.0.0.1", "6.6.6.6, 198.51.100.7,10.0.0.2 , 127.0.0.1", "198.51.100.7"),
            ("127.0.0.1", "::ffff:198.51.100.7", "198.51.100.7"),
            ("127.0.0.1", "2001:db8::1", "2001:db8::1"),
            ("127.0.0.1", "198.51.100.7:4711", "198.51.100.7"),
            ("127.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
            ("127.0.0.1", "", "127.0.0.1"),
            ("127.0.0.1", "198.51.100.7, unknown", "127.0.0.1"),
            ("127.0.0.1", "198.51.100.7,", "127.0.0.1"),
            ("127.0.0.1", "unknown, 198.51.100.7", "198.51.100.7"),
            ("127.0.0.1", "10.0.0.2, 10.0.0.2", "127.0.0.1"),
        ] {
            let found = client_address(peer.parse().unwrap(), header, &trusted);
            assert_eq!(found.to_string(), client, "{peer} {header:?}");
        }
    }

    #[test]
    fn an_ipv6_client_holds_its_whole_network() {
        let of = |text: &str| holder(plain(text.parse().unwrap())).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("::ffff:1.2.3.4"), "1.2.3.4");
        assert_eq!(of("1.2.3.4"), "1.2.3.4");
    }
}

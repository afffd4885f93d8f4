//! Where our reader and tshark differ, and why that is right.

/// Some differences with one reason.
pub(crate) struct Difference {
    pub(crate) why: &'static str,
    /// `FILE: ours|tshark: LINE`: only the one side says so.
    pub(crate) lines: &'static [&'static str],
}

pub(crate) const DIFFERENCES: [Difference; 4] = [
    Difference {
        why: "tshark words a name that loops; for us a question without a name is unreadable, and counted",
        lines: &[
            "dns_dns-invalid-names.pcap: tshark: asked 8.8.8.8 <name contains a pointer that loops>",
        ],
    },
    Difference {
        why: "tshark looks for SOCKS on port 1080 only; we on any",
        lines: &["socks-auth-10080.pcap: ours: name tcp 192.168.0.1 10080 192.168.0.2"],
    },
    Difference {
        why: "tshark reads a SOCKS 4 address out of the HTTP request that goes through the tunnel",
        lines: &["tunnels_socks.pcap: tshark: name tcp 127.0.0.1 1080 4.1.0.80"],
    },
    Difference {
        why: "a TLS hello sent to port 80: tshark decodes by the port, as HTTP; we by what is said",
        lines: &["tls_ssl-to-http-server.pcap: ours: name tcp 87.240.132.72 80 vk.com"],
    },
];

//! Well-known services whose name alone is a finding: a small list to be added to.
//!
//! Sources: the LOTS project (lots-project.com) and MITRE ATT&CK T1567 (exfiltration over web
//! services), T1572 (protocol tunnelling) and T1102 (web services) for paste, file, webhook and
//! tunnel services; the vendors' own documentation of their endpoints for telemetry; the resolver
//! operators' pages for resolvers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a service is known for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Telemetry,
    Paste,
    Tunnel,
    FileDrop,
    Webhook,
    /// DNS over HTTPS or TLS for everybody.
    Resolver,
}

/// What `name`, or a parent of it, is known for.
#[must_use]
pub fn kind_of(name: &str) -> Option<Kind> {
    let is_below = |parent: &str| {
        name.strip_suffix(parent)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    SERVICES
        .iter()
        .find(|(_, parents)| parents.iter().any(|parent| is_below(parent)))
        .map(|(kind, _)| *kind)
}

const SERVICES: [(Kind, &[&str]); 6] = [
    (
        Kind::Telemetry,
        &[
            "sentry.io",
            "posthog.com",
            "segment.io",
            "segment.com",
            "mixpanel.com",
            "amplitude.com",
            "google-analytics.com",
            "googletagmanager.com",
            "datadoghq.com",
            "datadoghq.eu",
            "newrelic.com",
            "nr-data.net",
            "bugsnag.com",
            "rollbar.com",
            "honeycomb.io",
            "applicationinsights.azure.com",
            "dc.services.visualstudio.com",
            "events.data.microsoft.com",
            "telemetry.crewai.com",
            "api.smith.langchain.com",
            "scarf.sh",
        ],
    ),
    (
        Kind::Paste,
        &[
            "pastebin.com",
            "paste.ee",
            "hastebin.com",
            "rentry.co",
            "rentry.org",
            "dpaste.com",
            "dpaste.org",
            "ghostbin.com",
            "privatebin.net",
            "controlc.com",
            "justpaste.it",
            "termbin.com",
            "ix.io",
            "sprunge.us",
            "paste.rs",
            "pastes.io",
        ],
    ),
    (
        Kind::Tunnel,
        &[
            "ngrok.io",
            "ngrok.com",
            "ngrok.app",
            "ngrok.dev",
            "ngrok-free.app",
            "ngrok-free.dev",
            "trycloudflare.com",
            "argotunnel.com",
            "localtunnel.me",
            "loca.lt",
            "serveo.net",
            "localhost.run",
            "lhr.life",
            "bore.pub",
            "pinggy.io",
            "pinggy.link",
            "devtunnels.ms",
            "tunnels.api.visualstudio.com",
            "portmap.io",
            "playit.gg",
        ],
    ),
    (
        Kind::FileDrop,
        &[
            "transfer.sh",
            "file.io",
            "gofile.io",
            "anonfiles.com",
            "mega.nz",
            "mega.co.nz",
            "wetransfer.com",
            "we.tl",
            "0x0.st",
            "catbox.moe",
            "bashupload.com",
            "temp.sh",
            "tmpfiles.org",
            "oshi.at",
            "filebin.net",
            "mediafire.com",
            "sendspace.com",
            "pixeldrain.com",
            "ufile.io",
        ],
    ),
    (
        Kind::Webhook,
        &[
            "webhook.site",
            "requestbin.com",
            "requestbin.net",
            "pipedream.net",
            "requestcatcher.com",
            "beeceptor.com",
            "hookb.in",
            "interact.sh",
            "oast.pro",
            "oast.live",
            "oast.site",
            "oast.online",
            "oast.fun",
            "oast.me",
            "oastify.com",
            "burpcollaborator.net",
            "dnslog.cn",
            "canarytokens.com",
            "hooks.slack.com",
            "api.telegram.org",
            "discord.com",
            "discordapp.com",
            "ntfy.sh",
            "hooks.zapier.com",
        ],
    ),
    (
        Kind::Resolver,
        &[
            "dns.google",
            "cloudflare-dns.com",
            "one.one.one.one",
            "dns.quad9.net",
            "doh.opendns.com",
            "dns.nextdns.io",
            "dns.adguard-dns.com",
            "doh.cleanbrowsing.org",
            "freedns.controld.com",
            "dns.mullvad.net",
            "doh.dns.sb",
            "dns.alidns.com",
            "doh.pub",
        ],
    ),
];

/// Google, Cloudflare, Quad9, OpenDNS, AdGuard, `AliDNS`, DNSPod, Control D.
pub const RESOLVERS: [IpAddr; 25] = [
    v4(8, 8, 8, 8),
    v4(8, 8, 4, 4),
    v4(1, 1, 1, 1),
    v4(1, 0, 0, 1),
    v4(1, 1, 1, 2),
    v4(1, 1, 1, 3),
    v4(9, 9, 9, 9),
    v4(9, 9, 9, 10),
    v4(9, 9, 9, 11),
    v4(149, 112, 112, 112),
    v4(208, 67, 222, 222),
    v4(208, 67, 220, 220),
    v4(94, 140, 14, 14),
    v4(94, 140, 15, 15),
    v4(223, 5, 5, 5),
    v4(223, 6, 6, 6),
    v4(119, 29, 29, 29),
    v4(76, 76, 2, 0),
    v4(76, 76, 10, 0),
    v6([0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888]),
    v6([0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8844]),
    v6([0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111]),
    v6([0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1001]),
    v6([0x2620, 0xfe, 0, 0, 0, 0, 0, 0xfe]),
    v6([0x2620, 0xfe, 0, 0, 0, 0, 0, 9]),
];

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_known_by_its_parent() {
        for (name, kind) in [
            ("pastebin.com", Some(Kind::Paste)),
            ("a1b2.ngrok-free.app", Some(Kind::Tunnel)),
            ("o123.ingest.sentry.io", Some(Kind::Telemetry)),
            ("dns.google", Some(Kind::Resolver)),
            ("notpastebin.com", None),
            ("pastebin.com.example.org", None),
        ] {
            assert_eq!(kind_of(name), kind, "{name}");
        }
    }
}

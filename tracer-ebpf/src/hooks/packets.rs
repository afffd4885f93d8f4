//! The programs that see packets of sockets.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::bpf_sk_fullsock,
    macros::cgroup_skb,
    programs::SkBuffContext,
};

use super::{
    ALLOW, datagram,
    wire::{IPPROTO_UDP, peer_port, tcp_received, tcp_sent, udp_received, udp_sent},
};
use crate::{answers, made, packet::Glance, translation, wire::is_dns};

pub(super) const IPPROTO_TCP: u32 = 6;
/// `sk->sk_state` of a TCP socket that waits for the answer to its SYN.
const SYN_SENT: u32 = 2;

/// `BPF_CGROUP_INET_EGRESS`, Linux 4.10: every IP packet that leaves a socket of the cgroup,
/// after routing and NAT, and after every address hook's rewrite.
///
/// Costs 20 to 50 ns a packet: TCP returns at once but for a SYN, and so does a datagram socket
/// once it has sent. Uses the caller that connect() kept, since the sender may be a softirq. Does
/// not see what a packet filter dropped, nor NAT beyond the network namespace; of MPTCP it sees
/// the packets, but not whose they are.
#[cgroup_skb(egress)]
fn datagram_egress(ctx: SkBuffContext) -> i32 {
    let skb = ctx.as_ptr().cast::<__sk_buff>();
    if let Some(sk) = socket(skb) {
        // SAFETY: the verifier has seen that this is a full socket.
        let (protocol, state) = unsafe { ((*sk).protocol, (*sk).state) };
        if protocol != IPPROTO_TCP {
            datagram::left(&ctx, skb, sk);
        } else if state == SYN_SENT {
            translation::compare_asked(skb);
        }
    }
    ALLOW
}

/// `BPF_CGROUP_INET_EGRESS`, Linux 4.10: every IP packet that leaves a socket of the cgroup, after
/// routing and NAT within its network namespace. A program of its own, since the two together need
/// more stack than a program has.
///
/// Sends DNS questions, and of connections the first bytes that may tell a name. On an established
/// connection it costs 10 to 30 ns a packet: TCP returns once a few segments with data have left,
/// UDP when the packet is neither DNS nor a QUIC Initial. Does not see what AF_PACKET sockets send,
/// nor names that are encrypted.
#[cgroup_skb(egress)]
fn wire_egress(ctx: SkBuffContext) -> i32 {
    let skb = ctx.as_ptr().cast::<__sk_buff>();
    if let Some(sk) = socket(skb) {
        // SAFETY: the verifier has seen that this is a full socket.
        if unsafe { (*sk).protocol } == IPPROTO_TCP {
            tcp_sent(skb, sk);
        } else {
            udp_sent(skb, sk);
        }
    }
    ALLOW
}

/// `BPF_CGROUP_INET_INGRESS`, Linux 4.10: every IP packet for a socket of the cgroup, before TCP
/// looks at sequence numbers: duplicates come twice.
///
/// Sends DNS answers, and notes who spoke first to a UDP socket that was bound and from where datagrams
/// are answered. TCP costs 5 to 15 ns a packet, a datagram 10 to 40. Does not see what comes over a
/// shared memory or a Unix socket, such as glibc's nscd.
#[cgroup_skb(ingress)]
fn wire_ingress(ctx: SkBuffContext) -> i32 {
    let skb = ctx.as_ptr().cast::<__sk_buff>();
    if let Some(sk) = socket(skb) {
        // SAFETY: the verifier has seen that this is a full socket.
        let (protocol, port) = unsafe { ((*sk).protocol, peer_port(sk)) };
        if protocol == IPPROTO_TCP {
            if is_dns(port) {
                tcp_received(skb, sk);
            }
        } else if protocol == IPPROTO_UDP {
            udp_received(skb, sk, port);
        } else if made::is_counted(sk) {
            answers::note(skb, &Glance::default());
        }
    }
    ALLOW
}

#[inline(always)]
fn socket(skb: *mut __sk_buff) -> Option<*mut bpf_sock> {
    // SAFETY: the context is valid while the program runs; each pointer is checked for null.
    unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return None;
        }
        let sk = bpf_sk_fullsock(sk);
        (!sk.is_null()).then_some(sk)
    }
}

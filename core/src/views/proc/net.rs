//! `/proc/PID/net`: a network with nothing in it but the loopback device, as a network namespace has when it
//! is made.

use alloc::format;
use alloc::vec::Vec;

use super::view::View;
use crate::Kernel;
use crate::abi::Errno;
use crate::machine::ThreadId;
use crate::port::Ports;

/// Makes files out of texts that are the heads of tables without lines.
macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident = $text:expr;)*) => {$(
        $(#[$doc])*
        pub(super) fn $name(_: &mut Kernel, _: &mut Ports<'_>, _: ThreadId, _: View) -> Result<Vec<u8>, Errno> {
            Ok($text.as_bytes().to_vec())
        }
    )*};
}

tables! {
    /// Nothing: neither groups that are listened to nor IPv6.
    nothing = "";
    /// Neighbours.
    arp = "IP address       HW type     Flags       HW address            Mask     Device\n";
    /// Devices: loopback, over which nothing has gone.
    dev = concat!(
        "Inter-|   Receive                                                |  Transmit\n",
        " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n",
        "    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n",
    );
    /// Netlink sockets.
    netlink = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n";
    /// Packet sockets.
    packet = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n";
    /// Protocols.
    protocols = "protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de sh ss gs se re bi br ha uh gp em\n";
    /// Sockets by protocol.
    sockstat = "sockets: used 0\nTCP: inuse 0 orphan 0 tw 0 alloc 0 mem 0\nUDP: inuse 0 mem 0\nRAW: inuse 0\nFRAG: inuse 0 memory 0\n";
    /// IPv6 sockets.
    tcp6 = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
    /// IPv6 datagram sockets.
    udp6 = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n";
}

/// The head of a table whose lines are padded to 127 or 149 characters, as `seq_setwidth()` does.
fn padded(text: &str, width: usize) -> Vec<u8> {
    format!("{text:<width$}\n").into_bytes()
}

pub(super) fn route(
    _: &mut Kernel,
    _: &mut Ports<'_>,
    _: ThreadId,
    _: View,
) -> Result<Vec<u8>, Errno> {
    let head =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
    Ok(padded(head, 127))
}

pub(super) fn tcp(
    _: &mut Kernel,
    _: &mut Ports<'_>,
    _: ThreadId,
    _: View,
) -> Result<Vec<u8>, Errno> {
    let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
    Ok(padded(head, 149))
}

pub(super) fn udp(
    _: &mut Kernel,
    _: &mut Ports<'_>,
    _: ThreadId,
    _: View,
) -> Result<Vec<u8>, Errno> {
    let head = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops";
    Ok(padded(head, 127))
}

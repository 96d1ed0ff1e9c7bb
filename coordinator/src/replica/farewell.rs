//! How connections of clients end.
//!
//! A stream that ends with FIN was ended by the server; one that breaks because a replica died, stepped down or stopped
//! must not look the same, or a client takes half a reply for all of it. So a connection is made such that the kernel
//! resets it when its descriptor goes away, whoever the death surprises, until the server has ended it in order.

use std::net::{Shutdown, TcpStream};

use nix::sys::socket::{setsockopt, sockopt};

const RESET: libc::linger = libc::linger { l_onoff: 1, l_linger: 0 };
const FINISH: libc::linger = libc::linger { l_onoff: 0, l_linger: 0 };

/// From now on closing the socket resets the connection and throws away what the client has not got.
pub fn reset_on_close(socket: &TcpStream) {
    // It fails only for what is no socket.
    let _ = setsockopt(socket, sockopt::Linger, &RESET);
}

/// From now on closing the socket lets the client have all that was written, then FIN.
pub fn finish_on_close(socket: &TcpStream) {
    let _ = setsockopt(socket, sockopt::Linger, &FINISH);
}

/// Sends FIN behind all that was written.
pub fn send_fin(socket: &TcpStream) {
    finish_on_close(socket);
    let _ = socket.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::{reset_on_close, send_fin};
    use std::io::{ErrorKind, Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn a_client_can_tell_an_end_from_a_death() {
        let (mut client, mut ours) = pair();
        reset_on_close(&ours);
        ours.write_all(b"half").unwrap();
        drop(ours);
        let error = client.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);

        let (mut client, mut ours) = pair();
        reset_on_close(&ours);
        ours.write_all(b"all").unwrap();
        send_fin(&ours);
        drop(ours);
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"all");
    }
}

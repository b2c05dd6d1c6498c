//! Many datagrams in one call, which the system or the network card cuts apart (UDP_SEGMENT of
//! Linux 4.18; elsewhere there is none).

#[cfg(target_os = "linux")]
pub(super) use linux::{are_cut, is_refusal, try_send_to};
#[cfg(not(target_os = "linux"))]
pub(super) use nowhere::{are_cut, is_refusal, try_send_to};

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::mem::size_of;
    use std::net::SocketAddr;
    use std::os::fd::AsRawFd;

    use socket2::{MsgHdr, SockAddr, SockRef};
    use tokio::io::Interest;
    use tokio::net::UdpSocket;

    const HEADER: usize = size_of::<libc::cmsghdr>();

    /// Whether the system cuts. An older one would not say so when it is asked to, but send one
    /// datagram of all.
    pub(crate) fn are_cut(socket: &UdpSocket) -> bool {
        let mut size: libc::c_int = 0;
        let mut length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes to `size`, and both outlive the call.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_UDP,
                libc::UDP_SEGMENT,
                (&raw mut size).cast(),
                &raw mut length,
            )
        };
        result == 0
    }

    /// Sends `bytes` as datagrams of `size`.
    pub(crate) fn try_send_to(
        socket: &UdpSocket,
        bytes: &[u8],
        size: usize,
        to: SocketAddr,
    ) -> io::Result<usize> {
        let control = control(size)?;
        let to = SockAddr::from(to);
        let buffers = [io::IoSlice::new(bytes)];
        let message = MsgHdr::new()
            .with_addr(&to)
            .with_buffers(&buffers)
            .with_control(&control);
        socket.try_io(Interest::WRITABLE, || {
            SockRef::from(socket).sendmsg(&message, 0)
        })
    }

    /// Whether the call was refused for what it asks and not for the network: the card cannot sum
    /// what it cuts (EIO), or the way is narrower than one datagram.
    pub(crate) fn is_refusal(error: &io::Error) -> bool {
        matches!(
            error.raw_os_error(),
            Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE | libc::EOPNOTSUPP)
        )
    }

    /// One control message (cmsg(3)): its length, level and type, then the size, and what fills it
    /// up to a whole word.
    fn control(size: usize) -> io::Result<[u8; HEADER + size_of::<usize>()]> {
        let size = u16::try_from(size).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut control = [0; HEADER + size_of::<usize>()];
        let fields = (HEADER + size_of::<u16>())
            .to_ne_bytes()
            .into_iter()
            .chain(libc::SOL_UDP.to_ne_bytes())
            .chain(libc::UDP_SEGMENT.to_ne_bytes())
            .chain(size.to_ne_bytes());
        for (to, byte) in control.iter_mut().zip(fields) {
            *to = byte;
        }
        Ok(control)
    }
}

#[cfg(not(target_os = "linux"))]
mod nowhere {
    use std::io;
    use std::net::SocketAddr;

    use tokio::net::UdpSocket;

    /// It does not.
    pub(crate) fn are_cut(_socket: &UdpSocket) -> bool {
        false
    }

    /// Is not called where nothing is cut.
    pub(crate) fn try_send_to(
        _socket: &UdpSocket,
        _bytes: &[u8],
        _size: usize,
        _to: SocketAddr,
    ) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The only error there is.
    pub(crate) fn is_refusal(error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::Unsupported
    }
}

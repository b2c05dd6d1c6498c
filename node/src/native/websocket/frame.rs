//! RFC 6455's framing, for links: binary messages are a stream of bytes whose borders say
//! nothing, so a frame's payload is handed on as it comes and no message is ever put together.

use bytes::{Buf, Bytes, BytesMut};

/// A control frame's payload is this long at most (RFC 6455, 5.5).
const MAX_CONTROL_BYTES: usize = 125;

/// Which end of the WebSocket we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// We dialled: our frames are masked, the peer's are not.
    Client,
    /// We were dialled: the peer's frames are masked, ours are not.
    Server,
}

/// RFC 6455, 5.2: what a frame is. Text is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation = 0,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// What is wrong with the peer's frames, and the close code that says so (RFC 6455, 7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a WebSocket frame with reserved bits")]
    ReservedBits,
    #[error("a WebSocket frame of an unknown kind ({0})")]
    UnknownOpcode(u8),
    #[error("text on a WebSocket that carries cells")]
    Text,
    #[error("a WebSocket frame masked from the wrong side")]
    Mask,
    #[error("a WebSocket control frame that is too long or in pieces")]
    Control,
    #[error("WebSocket fragments out of order")]
    Fragments,
    #[error("a WebSocket frame whose length is not in its shortest form")]
    Length,
}

impl FrameError {
    pub(super) fn close_code(self) -> u16 {
        match self {
            FrameError::Text => 1003,
            FrameError::ReservedBits
            | FrameError::UnknownOpcode(_)
            | FrameError::Mask
            | FrameError::Control
            | FrameError::Fragments
            | FrameError::Length => 1002,
        }
    }
}

/// A control frame of the peer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Control {
    Ping(Bytes),
    Pong,
    /// With its code, if it has one.
    Close(Option<u16>),
}

/// The peer's frames as they come in.
#[derive(Debug)]
pub(super) struct Decoder {
    end: End,
    /// The data frame whose payload is being handed on.
    payload: Option<Payload>,
    /// A binary message has begun and not ended.
    in_message: bool,
}

#[derive(Clone, Copy, Debug)]
struct Payload {
    remaining: u64,
    /// The mask, turned so that its first byte is the next payload byte's.
    mask: [u8; 4],
}

struct Header {
    opcode: Opcode,
    fin: bool,
    mask: Option<[u8; 4]>,
    length: u64,
    /// Bytes that the header itself takes.
    size: usize,
}

impl Decoder {
    pub(super) fn new(end: End) -> Self {
        Decoder {
            end,
            payload: None,
            in_message: false,
        }
    }

    /// Moves what is payload in `raw` to `into`, until a control frame or the end of `raw`.
    ///
    /// `Ok(None)`: more bytes are needed.
    pub(super) fn decode(
        &mut self,
        raw: &mut BytesMut,
        into: &mut BytesMut,
    ) -> Result<Option<Control>, FrameError> {
        loop {
            if let Some(payload) = &mut self.payload {
                let here = raw
                    .len()
                    .min(usize::try_from(payload.remaining).unwrap_or(usize::MAX));
                let mut part = raw.split_to(here);
                apply_mask(&mut part, payload.mask);
                payload.mask.rotate_left(here % 4);
                payload.remaining -= here as u64;
                if payload.remaining == 0 {
                    self.payload = None;
                }
                // Moved if it is the first, copied if others came before it.
                if into.is_empty() {
                    *into = part;
                } else {
                    into.extend_from_slice(&part);
                }
                if self.payload.is_some() {
                    return Ok(None);
                }
            }
            let Some(header) = self.header(raw)? else {
                return Ok(None);
            };
            match header.opcode {
                Opcode::Binary | Opcode::Continuation => {
                    if self.in_message != (header.opcode == Opcode::Continuation) {
                        return Err(FrameError::Fragments);
                    }
                    self.in_message = !header.fin;
                    raw.advance(header.size);
                    self.payload = Some(Payload {
                        remaining: header.length,
                        mask: header.mask.unwrap_or_default(),
                    });
                }
                Opcode::Ping | Opcode::Pong | Opcode::Close => {
                    let length = usize::try_from(header.length).map_err(|_| FrameError::Control)?;
                    if length > MAX_CONTROL_BYTES || !header.fin {
                        return Err(FrameError::Control);
                    }
                    if raw.len() < header.size + length {
                        return Ok(None);
                    }
                    raw.advance(header.size);
                    let mut payload = raw.split_to(length);
                    apply_mask(&mut payload, header.mask.unwrap_or_default());
                    return Ok(Some(match header.opcode {
                        Opcode::Ping => Control::Ping(payload.freeze()),
                        Opcode::Pong => Control::Pong,
                        _ => Control::Close(
                            payload.first_chunk().map(|code| u16::from_be_bytes(*code)),
                        ),
                    }));
                }
            }
        }
    }

    fn header(&self, raw: &[u8]) -> Result<Option<Header>, FrameError> {
        let &[first, second, ref rest @ ..] = raw else {
            return Ok(None);
        };
        if first & 0x70 != 0 {
            return Err(FrameError::ReservedBits);
        }
        let opcode = match first & 0x0f {
            0 => Opcode::Continuation,
            1 => return Err(FrameError::Text),
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            other => return Err(FrameError::UnknownOpcode(other)),
        };
        let masked = second & 0x80 != 0;
        if masked != (self.end == End::Server) {
            return Err(FrameError::Mask);
        }
        let (length, rest) = match second & 0x7f {
            126 => {
                let Some((bytes, rest)) = rest.split_first_chunk() else {
                    return Ok(None);
                };
                let length = u64::from(u16::from_be_bytes(*bytes));
                if length < 126 {
                    return Err(FrameError::Length);
                }
                (length, rest)
            }
            127 => {
                let Some((bytes, rest)) = rest.split_first_chunk() else {
                    return Ok(None);
                };
                let length = u64::from_be_bytes(*bytes);
                if length <= u64::from(u16::MAX) || length >> 63 != 0 {
                    return Err(FrameError::Length);
                }
                (length, rest)
            }
            short => (u64::from(short), rest),
        };
        let (mask, rest) = if masked {
            let Some((mask, rest)) = rest.split_first_chunk() else {
                return Ok(None);
            };
            (Some(*mask), rest)
        } else {
            (None, rest)
        };
        let size = raw.len() - rest.len();
        Ok(Some(Header {
            opcode,
            fin: first & 0x80 != 0,
            mask,
            length,
            size,
        }))
    }
}

/// A frame's header, alone in its bytes: the payload follows unmoved.
pub(super) fn header(opcode: Opcode, length: usize, mask: Option<[u8; 4]>) -> Bytes {
    let mut header = BytesMut::with_capacity(14);
    let masked = if mask.is_some() { 0x80 } else { 0 };
    header.extend_from_slice(&[0x80 | opcode as u8]);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => header.extend_from_slice(&[masked | short]),
        (_, Ok(length)) => {
            header.extend_from_slice(&[masked | 126]);
            header.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            header.extend_from_slice(&[masked | 127]);
            header.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    if let Some(mask) = mask {
        header.extend_from_slice(&mask);
    }
    header.freeze()
}

/// RFC 6455, 5.3: masks or unmasks, eight bytes at a step.
pub(super) fn apply_mask(bytes: &mut [u8], mask: [u8; 4]) {
    if mask == [0; 4] {
        return;
    }
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        if let Ok(eight) = <&mut [u8; 8]>::try_from(chunk) {
            *eight = (u64::from_ne_bytes(*eight) ^ wide).to_ne_bytes();
        }
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

//! Cells: the units that travel on a link, and the decoder that finds them in its bytes.

use bytes::{Buf, BytesMut};

use super::codec::{newtypes, numbers};
use super::{Decode, DecodeError, Encode, EncodeError, Reader, Writer};

/// Length of a fixed-length cell on link protocols 4 and 5.
pub const CELL_LEN: usize = CELL_HEADER_LEN + CELL_BODY_LEN;
/// Length of what stands before a fixed-length cell's body: circuit id and command.
pub const CELL_HEADER_LEN: usize = 5;
/// Length of a fixed-length cell's body.
pub const CELL_BODY_LEN: usize = 509;
/// Length of what stands before a variable-length cell's body: circuit id, command, length.
const VARIABLE_HEADER_LEN: usize = 7;
/// Length of what stands before the body of VERSIONS, whose circuit id has two bytes only.
const VERSIONS_HEADER_LEN: usize = 5;
/// The longest VERSIONS body that we read: 64 versions, of which Tor has had five.
pub const MAX_VERSIONS_BODY: usize = 128;

/// A circuit's number on one link, as the wire has it; 0 is the link itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CircId(pub u32);

impl CircId {
    /// What speaks of the link and of no circuit.
    pub const LINK: CircId = CircId(0);

    /// Whether the number is of the half that a link's initiator chooses from.
    pub const fn is_initiators(self) -> bool {
        self.0 & 0x8000_0000 != 0
    }
}

newtypes! { CircId => CircId, |id: &CircId| id.0, u32; }

numbers! {
    /// What a cell is. tor-spec, "Cell Packet format".
    Command(u8) {
        /// Link padding.
        PADDING = 0,
        /// Circuit creation, obsolete (TAP).
        CREATE = 1,
        /// Answer to CREATE, obsolete.
        CREATED = 2,
        /// What a circuit carries.
        RELAY = 3,
        /// The end of a circuit.
        DESTROY = 4,
        /// Circuit creation without public-key cryptography.
        CREATE_FAST = 5,
        /// Answer to CREATE_FAST.
        CREATED_FAST = 6,
        /// The link protocols that are spoken.
        VERSIONS = 7,
        /// Time and addresses.
        NETINFO = 8,
        /// What a circuit carries, allowed to extend it.
        RELAY_EARLY = 9,
        /// Circuit creation.
        CREATE2 = 10,
        /// Answer to CREATE2.
        CREATED2 = 11,
        /// How much link padding is wanted.
        PADDING_NEGOTIATE = 12,
        /// Link padding of any length.
        VPADDING = 128,
        /// Certificates.
        CERTS = 129,
        /// What the initiator is to sign.
        AUTH_CHALLENGE = 130,
        /// The initiator's proof of identity.
        AUTHENTICATE = 131,
        /// Reserved; nobody sends it.
        AUTHORIZE = 132,
    }
}

impl Command {
    /// Whether its cells carry their length; the others' bodies have 509 bytes.
    pub const fn is_variable(self) -> bool {
        self.0 == Command::VERSIONS.0 || self.0 >= 128
    }
}

/// A cell taken off a link's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawCell {
    /// Its circuit.
    pub circ: CircId,
    /// What it is.
    pub command: Command,
    /// 509 bytes, or for variable-length cells as many as they said.
    pub body: BytesMut,
}

impl RawCell {
    /// The body of a fixed-length cell, to be decrypted in place.
    pub fn fixed_body_mut(&mut self) -> Option<&mut [u8; CELL_BODY_LEN]> {
        self.body.as_mut().try_into().ok()
    }
}

/// A cell that lies in a link's bytes yet.
#[derive(Debug, PartialEq, Eq)]
pub struct CellRef<'a> {
    /// Its circuit.
    pub circ: CircId,
    /// What it is.
    pub command: Command,
    /// 509 bytes, or for variable-length cells as many as they said.
    pub body: &'a mut [u8],
}

/// Where a cell's parts lie at the front of a link's bytes.
struct Frame {
    circ: CircId,
    command: Command,
    header_len: usize,
    body_len: usize,
}

/// Finds the cells in a link's bytes. It begins by taking VERSIONS and nothing else, with the
/// two-byte circuit id that VERSIONS alone has.
#[derive(Clone, Debug, Default)]
pub struct CellDecoder {
    negotiated: bool,
}

impl CellDecoder {
    /// A decoder for a link on which nothing has been read.
    pub const fn new() -> Self {
        CellDecoder { negotiated: false }
    }

    /// From here on cells are those of link protocol 4 or 5.
    pub const fn negotiated(&mut self) {
        self.negotiated = true;
    }

    /// How long the cell is, header included, that begins `bytes`: none if it does not say yet.
    pub fn cell_len(&self, bytes: &[u8]) -> Result<Option<usize>, DecodeError> {
        Ok(self
            .frame(bytes)?
            .map(|frame| frame.header_len + frame.body_len))
    }

    /// Takes the next cell off `buf`: none if it is not there in full.
    ///
    /// The body is split off, not copied. After an error the link is of no more use.
    pub fn next(&self, buf: &mut BytesMut) -> Result<Option<RawCell>, DecodeError> {
        let Some(frame) = self.frame(buf)? else {
            return Ok(None);
        };
        if buf.len() < frame.header_len + frame.body_len {
            return Ok(None);
        }
        buf.advance(frame.header_len);
        let body = buf.split_to(frame.body_len);
        Ok(Some(RawCell {
            circ: frame.circ,
            command: frame.command,
            body,
        }))
    }

    /// The next cell at the front of `bytes` where it lies, and what follows it: none if it is not
    /// there in full. For those who are done with a cell before they look at the next: it spares
    /// counting references.
    pub fn peel<'a>(
        &self,
        bytes: &'a mut [u8],
    ) -> Result<Option<(CellRef<'a>, &'a mut [u8])>, DecodeError> {
        let Some(frame) = self.frame(bytes)? else {
            return Ok(None);
        };
        let Some((cell, rest)) = bytes.split_at_mut_checked(frame.header_len + frame.body_len)
        else {
            return Ok(None);
        };
        let Some((_, body)) = cell.split_at_mut_checked(frame.header_len) else {
            return Ok(None);
        };
        Ok(Some((
            CellRef {
                circ: frame.circ,
                command: frame.command,
                body,
            },
            rest,
        )))
    }

    /// What the header says, if it is there.
    fn frame(&self, bytes: &[u8]) -> Result<Option<Frame>, DecodeError> {
        let mut reader = Reader::new(bytes);
        if self.negotiated {
            frame_of_cell(&mut reader)
        } else {
            frame_of_versions(&mut reader)
        }
    }
}

/// A cell's frame on link protocols 4 and 5.
fn frame_of_cell(reader: &mut Reader<'_>) -> Result<Option<Frame>, DecodeError> {
    let (Ok(circ), Ok(command)) = (reader.read(), reader.read::<Command>()) else {
        return Ok(None);
    };
    if !command.is_variable() {
        let (header_len, body_len) = (CELL_HEADER_LEN, CELL_BODY_LEN);
        return Ok(Some(Frame {
            circ,
            command,
            header_len,
            body_len,
        }));
    }
    let Ok(body_len) = reader.read::<u16>() else {
        return Ok(None);
    };
    let (header_len, body_len) = (VARIABLE_HEADER_LEN, usize::from(body_len));
    Ok(Some(Frame {
        circ,
        command,
        header_len,
        body_len,
    }))
}

/// The frame of the VERSIONS cell that begins a link; anything else is refused at its third byte.
fn frame_of_versions(reader: &mut Reader<'_>) -> Result<Option<Frame>, DecodeError> {
    let (Ok(circ), Ok(command)) = (reader.read::<u16>(), reader.read::<Command>()) else {
        return Ok(None);
    };
    if command != Command::VERSIONS || circ != 0 {
        return Err(DecodeError::UnexpectedCell(command.0));
    }
    let Ok(body_len) = reader.read::<u16>() else {
        return Ok(None);
    };
    let (header_len, body_len) = (VERSIONS_HEADER_LEN, usize::from(body_len));
    if body_len > MAX_VERSIONS_BODY {
        return Err(DecodeError::OutOfBounds("the length of VERSIONS"));
    }
    Ok(Some(Frame {
        circ: CircId::LINK,
        command,
        header_len,
        body_len,
    }))
}

/// Appends a cell to `out`.
///
/// A fixed-length cell's body is padded with zeros to its length. VERSIONS is written with its
/// two-byte circuit id. A body that is too long is refused.
pub fn write_cell(
    out: &mut BytesMut,
    circ: CircId,
    command: Command,
    body: &[u8],
) -> Result<(), EncodeError> {
    write_with(out, circ, command, body.len(), |writer| writer.put(body))
}

/// Appends a cell to `out`, the body written where it is to lie.
pub fn write_body<B: CellBody>(
    out: &mut BytesMut,
    circ: CircId,
    body: &B,
) -> Result<(), EncodeError> {
    write_with(out, circ, B::COMMAND, body.encoded_len(), |writer| {
        writer.write(body)
    })
}

/// Appends a cell to `out` whose body, of `len` bytes, `write` writes.
fn write_with(
    out: &mut BytesMut,
    circ: CircId,
    command: Command,
    len: usize,
    write: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let mut header = [0; VARIABLE_HEADER_LEN];
    let mut writer = Writer::new(&mut header);
    if command == Command::VERSIONS {
        writer.write::<u16>(&0)?;
    } else {
        writer.write(&circ)?;
    }
    writer.write(&command)?;
    let body_len = if command.is_variable() {
        writer.write(&u16::try_from(len).map_err(|_| EncodeError::NoRoom)?)?;
        len
    } else {
        CELL_BODY_LEN
    };
    if len > body_len {
        return Err(EncodeError::NoRoom);
    }
    let header_len = VARIABLE_HEADER_LEN - writer.remaining();
    let start = out.len();
    out.reserve(header_len + body_len);
    out.extend_from_slice(header.get(..header_len).ok_or(EncodeError::NoRoom)?);
    let body_start = out.len();
    out.resize(body_start + body_len, 0);
    let written = match out.get_mut(body_start..) {
        Some(body) => write(&mut Writer::new(body)),
        None => Err(EncodeError::NoRoom),
    };
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// What one command's cells carry.
pub trait CellBody: Encode + for<'a> Decode<'a> {
    /// The command.
    const COMMAND: Command;

    /// Reads a cell's body. What follows the fields is padding, or is of a later version of the
    /// protocol, and is ignored, as tor-spec wants it in all cells.
    fn from_cell(body: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(&mut Reader::new(body))
    }
}

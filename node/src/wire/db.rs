//! Chive's relay messages: how content is asked of an ORDB, and how routers are found.
//!
//! A *section* of a torrent is a blob cut into *blocks* of 16 KiB, numbered from zero; the last
//! one may be shorter.

use super::codec::{codec, numbers};
use super::names::{Infohash, InfohashV1, InfohashV2};
use super::{
    Decode, DecodeError, Descriptor, Encode, EncodeError, RELAY_DATA_MAX, Reader, Roles, Writer,
};

/// Length of a block, but for a section's last one.
pub const BLOCK_LEN: usize = 16 * 1024;
/// The most blocks that one DB_QUERY asks for, or one DB_END speaks of.
pub const MAX_ASK_BLOCKS: u16 = 1024;
/// Length of what stands before DB_DATA's bytes.
const DB_DATA_HEADER_LEN: usize = 7;
/// The most bytes in one DB_DATA.
pub const MAX_DB_DATA: usize = RELAY_DATA_MAX - DB_DATA_HEADER_LEN;

numbers! {
    /// A part of a torrent that is asked for by blocks.
    Section(u8) {
        /// The info dictionary.
        METADATA = 0,
        /// The content; a block is a chunk.
        CHUNKS = 1,
        /// The v2 piece layers of all files that have one, in file order, one after the other.
        PIECE_LAYERS = 2,
        /// The v2 leaf hashes, 32 bytes for each chunk, in chunk order.
        LEAF_HASHES = 3,
    }
}

impl Encode for Infohash {
    fn encoded_len(&self) -> usize {
        match self {
            Infohash::V1(_) => 21,
            Infohash::V2(_) => 33,
        }
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        match self {
            Infohash::V1(InfohashV1(hash)) => {
                writer.write::<u8>(&1)?;
                writer.write(hash)
            }
            Infohash::V2(InfohashV2(hash)) => {
                writer.write::<u8>(&2)?;
                writer.write(hash)
            }
        }
    }
}
impl<'a> Decode<'a> for Infohash {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match reader.read::<u8>()? {
            1 => Ok(Infohash::V1(InfohashV1(reader.read()?))),
            2 => Ok(Infohash::V2(InfohashV2(reader.read()?))),
            _ => Err(DecodeError::Invalid("an infohash's kind")),
        }
    }
}

/// Some blocks of a section, one after the other: at least one, at most [`MAX_ASK_BLOCKS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockRange {
    /// The section.
    pub section: Section,
    /// The first block.
    pub first: u32,
    /// How many.
    pub count: u16,
}

impl BlockRange {
    /// The block numbers.
    pub fn blocks(&self) -> std::ops::Range<u32> {
        self.first..self.first.saturating_add(u32::from(self.count))
    }

    /// Whether the bounds hold, the same for writing and reading.
    fn is_valid(&self) -> bool {
        (1..=MAX_ASK_BLOCKS).contains(&self.count)
            && self.first.checked_add(u32::from(self.count)).is_some()
    }
}

impl Encode for BlockRange {
    fn encoded_len(&self) -> usize {
        7
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        if !self.is_valid() {
            return Err(EncodeError::OutOfBounds("a range of blocks"));
        }
        writer.write(&self.section)?;
        writer.write(&self.first)?;
        writer.write(&self.count)
    }
}
impl<'a> Decode<'a> for BlockRange {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let (section, first, count) = (reader.read()?, reader.read()?, reader.read()?);
        let range = BlockRange {
            section,
            first,
            count,
        };
        if range.is_valid() {
            Ok(range)
        } else {
            Err(DecodeError::OutOfBounds("a range of blocks"))
        }
    }
}

/// DB_QUERY, requester to ORDB or ORDB to holder: `form u8`, then what the form has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DbQuery {
    /// Form 0, `counter u8, kind u8` (1: 20 bytes, 2: 32 bytes), the infohash: opens the stream.
    Open {
        /// Begins at a random number; who asks on for another asks with a larger one.
        counter: u8,
        /// What is asked for.
        name: Infohash,
    },
    /// Form 1, `section u8, first u32, count u16`: asks for blocks.
    Ask(BlockRange),
}
impl Encode for DbQuery {
    fn encoded_len(&self) -> usize {
        1 + match self {
            DbQuery::Open { name, .. } => 1 + name.encoded_len(),
            DbQuery::Ask(range) => range.encoded_len(),
        }
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        match self {
            DbQuery::Open { counter, name } => {
                writer.write::<u8>(&0)?;
                writer.write(counter)?;
                writer.write(name)
            }
            DbQuery::Ask(range) => {
                writer.write::<u8>(&1)?;
                writer.write(range)
            }
        }
    }
}
impl<'a> Decode<'a> for DbQuery {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match reader.read::<u8>()? {
            0 => Ok(DbQuery::Open {
                counter: reader.read()?,
                name: reader.read()?,
            }),
            1 => reader.read().map(DbQuery::Ask),
            _ => Err(DecodeError::Invalid("DB_QUERY's form")),
        }
    }
}

/// DB_CONNECTED, ORDB to requester: it has the metadata and will answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DbConnected {
    /// Length of the info dictionary.
    pub metadata_length: u32,
}
codec!(DbConnected { metadata_length });

/// DB_DATA, ORDB to requester: `section u8, block u32, offset u16`, then 1 to 491 bytes.
///
/// Blocks come in the order in which they were asked for, and within a block by offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DbData<'a> {
    /// The section.
    pub section: Section,
    /// The block.
    pub block: u32,
    /// Where in the block the bytes lie.
    pub offset: u16,
    /// The bytes.
    pub data: &'a [u8],
}

impl DbData<'_> {
    /// Whether the bounds hold, the same for writing and reading.
    fn is_valid(&self) -> bool {
        (1..=MAX_DB_DATA).contains(&self.data.len())
            && usize::from(self.offset) + self.data.len() <= BLOCK_LEN
    }
}

impl Encode for DbData<'_> {
    fn encoded_len(&self) -> usize {
        DB_DATA_HEADER_LEN + self.data.len()
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        if !self.is_valid() {
            return Err(EncodeError::OutOfBounds("DB_DATA"));
        }
        writer.write(&self.section)?;
        writer.write(&self.block)?;
        writer.write(&self.offset)?;
        writer.put(self.data)
    }
}
impl<'a> Decode<'a> for DbData<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let (section, block, offset) = (reader.read()?, reader.read()?, reader.read()?);
        let message = DbData {
            section,
            block,
            offset,
            data: reader.rest(),
        };
        if message.is_valid() {
            Ok(message)
        } else {
            Err(DecodeError::OutOfBounds("DB_DATA"))
        }
    }
}

numbers! {
    /// Why a stream to an ORDB, or a range of what was asked on it, ends.
    DbEndReason(u8) {
        /// None of the others.
        MISC = 0,
        /// Nobody who has it was found.
        NOT_FOUND = 1,
        /// Those who had it are gone.
        GONE = 2,
        /// Metadata or content is over this ORDB's limit.
        TOO_LARGE = 3,
        /// This ORDB serves as many as it can.
        BUSY = 4,
        /// This ORDB's storage is full.
        EXHAUSTED = 5,
        /// This section cannot be had here.
        UNAVAILABLE = 6,
        /// The other side said so.
        CANCELLED = 7,
        /// The protocol was violated.
        PROTOCOL = 8,
        /// Nothing was asked for too long.
        IDLE = 9,
        /// The question came round to who asks it, or might.
        LOOP = 10,
    }
}

/// What an ORDB tried before it said NOT_FOUND.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// For how long it looked.
    pub seconds: u16,
    /// How many nodes of the DHT answered.
    pub dht_nodes: u32,
    /// How many trackers answered.
    pub trackers: u16,
    /// How many peers were tried.
    pub peers: u32,
}
codec!(Tried {
    seconds,
    dht_nodes,
    trackers,
    peers
});

/// DB_END, either way: `reason u8, scope u8` (0: the whole stream; 1: `section u8, first u32,
/// count u16`), and after NOT_FOUND perhaps [`Tried`].
///
/// From the requester a scope cancels what it asked; from the ORDB it says that these blocks will
/// not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DbEnd {
    /// Why.
    pub reason: DbEndReason,
    /// Which blocks; none is the whole stream.
    pub scope: Option<BlockRange>,
    /// With NOT_FOUND: what was tried.
    pub tried: Option<Tried>,
}
impl Encode for DbEnd {
    fn encoded_len(&self) -> usize {
        2 + self.scope.map_or(0, |scope| scope.encoded_len())
            + self.tried.map_or(0, |tried| tried.encoded_len())
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        if self.tried.is_some() && self.reason != DbEndReason::NOT_FOUND {
            return Err(EncodeError::OutOfBounds("what DB_END says was tried"));
        }
        writer.write(&self.reason)?;
        writer.write(&u8::from(self.scope.is_some()))?;
        if let Some(scope) = &self.scope {
            writer.write(scope)?;
        }
        self.tried
            .as_ref()
            .map_or(Ok(()), |tried| writer.write(tried))
    }
}
impl<'a> Decode<'a> for DbEnd {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let reason = reader.read()?;
        let scope = match reader.read::<u8>()? {
            0 => None,
            1 => Some(reader.read()?),
            _ => return Err(DecodeError::Invalid("DB_END's scope")),
        };
        let has_tried = reason == DbEndReason::NOT_FOUND && !reader.is_empty();
        let tried = if has_tried {
            Some(reader.read()?)
        } else {
            None
        };
        Ok(DbEnd {
            reason,
            scope,
            tried,
        })
    }
}

/// DB_INFO, holder to ORDB: what can be asked of it over this circuit. `flags u8, percent u8`, the
/// infohash as in DB_QUERY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DbInfo {
    /// Bit 0: who tells is a facilitator.
    pub flags: u8,
    /// How much of it: 25, 50, 75 or 100; 0 takes back what was told before.
    pub percent: u8,
    /// Of what.
    pub name: Infohash,
}
impl DbInfo {
    /// The flag of a facilitator.
    pub const FACILITATOR: u8 = 1;
}
codec!(DbInfo {
    flags,
    percent,
    name
});

/// How many told an ORDB that they hold a torrent: each count is of those who hold so much or
/// more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// 25 %.
    pub quarter: u16,
    /// 50 %.
    pub half: u16,
    /// 75 %.
    pub three_quarters: u16,
    /// All of it.
    pub whole: u16,
}
codec!(Holders {
    quarter,
    half,
    three_quarters,
    whole
});

impl Holders {
    /// One more, who holds so much.
    #[must_use]
    pub fn with(self, percent: u8) -> Self {
        let add = |count: u16, least| count.saturating_add(u16::from(percent >= least));
        Holders {
            quarter: add(self.quarter, 25),
            half: add(self.half, 50),
            three_quarters: add(self.three_quarters, 75),
            whole: add(self.whole, 100),
        }
    }

    /// Of each count the larger one.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Holders {
            quarter: self.quarter.max(other.quarter),
            half: self.half.max(other.half),
            three_quarters: self.three_quarters.max(other.three_quarters),
            whole: self.whole.max(other.whole),
        }
    }
}

/// DB_TOLD, ORDB to those whose circuits a torrent's are, and to ORDBs that are its neighbours:
/// `life u16` in seconds, four counts `u16`, the infohash as in DB_QUERY. Nobody who holds any of
/// it takes back what was told to a neighbour before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DbTold {
    /// How long it counts.
    pub life_seconds: u16,
    /// How many hold it.
    pub holders: Holders,
    /// Of what.
    pub name: Infohash,
}
codec!(DbTold {
    life_seconds,
    holders,
    name
});

/// DB_FIND_PEER: `form u8`, then what the form has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DbFindPeer {
    /// Form 0, `roles u16, count u8`: asks for routers.
    Ask {
        /// All of these.
        roles: Roles,
        /// How many at most.
        count: u8,
    },
    /// Form 1, a descriptor: registers a router.
    Register(Box<Descriptor>),
}
impl Encode for DbFindPeer {
    fn encoded_len(&self) -> usize {
        1 + match self {
            DbFindPeer::Ask { .. } => 3,
            DbFindPeer::Register(descriptor) => descriptor.encoded_len(),
        }
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        match self {
            DbFindPeer::Ask { roles, count } => {
                writer.write::<u8>(&0)?;
                writer.write(roles)?;
                writer.write(count)
            }
            DbFindPeer::Register(descriptor) => {
                writer.write::<u8>(&1)?;
                writer.write(&**descriptor)
            }
        }
    }
}
impl<'a> Decode<'a> for DbFindPeer {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match reader.read::<u8>()? {
            0 => Ok(DbFindPeer::Ask {
                roles: reader.read()?,
                count: reader.read()?,
            }),
            1 => Ok(DbFindPeer::Register(Box::new(reader.read()?))),
            _ => Err(DecodeError::Invalid("DB_FIND_PEER's form")),
        }
    }
}

/// DB_FOUND_PEER: `remaining u8, present u8`, and if present is 1 a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DbFoundPeer {
    /// How many more messages of this answer follow.
    pub remaining: u8,
    /// A router; none if there is none.
    pub descriptor: Option<Box<Descriptor>>,
}
impl Encode for DbFoundPeer {
    fn encoded_len(&self) -> usize {
        2 + self
            .descriptor
            .as_ref()
            .map_or(0, |descriptor| descriptor.encoded_len())
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.write(&self.remaining)?;
        writer.write(&u8::from(self.descriptor.is_some()))?;
        self.descriptor
            .as_ref()
            .map_or(Ok(()), |descriptor| writer.write(&**descriptor))
    }
}
impl<'a> Decode<'a> for DbFoundPeer {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let remaining = reader.read()?;
        let descriptor = match reader.read::<u8>()? {
            0 => None,
            1 => Some(Box::new(reader.read()?)),
            _ => return Err(DecodeError::Invalid("DB_FOUND_PEER's presence")),
        };
        Ok(DbFoundPeer {
            remaining,
            descriptor,
        })
    }
}

//! Questions to peers and their answers: Kademlia's, and introductions.
//!
//! A question goes to a neighbour, over a circuit of one hop to it, and names whom it is for. Who
//! is not that one passes it on to whom it is linked to: the peer itself, or else one of the hints.
//! The answer comes back the way that the question went.

use super::codec::{Bytes16, Field, List8, numbers};
use super::{Decode, DecodeError, Descriptor, Encode, EncodeError, Reader, Writer};
use crate::ids::{Key, RsaId};

/// The most hints of one question.
pub const MAX_HINTS: usize = 3;
/// How often a question may be passed on.
pub const MAX_PASSES: u8 = 4;
/// The most bytes of what is sealed in an introduction.
pub const MAX_SEALED: usize = 360;

/// PEER_ASK: `passes u8, token u64, to 20 bytes, hints (a u8 count, 20 bytes each)`, the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAsk {
    /// How often it may yet be passed on; at most [`MAX_PASSES`].
    pub passes: u8,
    /// Random; the answers repeat it. Who passes the question on puts a token of its own.
    pub token: u64,
    /// For whom.
    pub to: RsaId,
    /// Who may be linked to it, the likeliest first.
    pub hints: Vec<RsaId>,
    /// What is asked.
    pub question: Question,
}

impl Encode for PeerAsk {
    fn encoded_len(&self) -> usize {
        1 + 8 + 20 + List8::<MAX_HINTS>::len(&self.hints) + self.question.encoded_len()
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        if self.passes > MAX_PASSES {
            return Err(EncodeError::OutOfBounds(
                "how often a question is passed on",
            ));
        }
        writer.write(&self.passes)?;
        writer.write(&self.token)?;
        writer.write(&self.to)?;
        List8::<MAX_HINTS>::put(&self.hints, writer)?;
        writer.write(&self.question)
    }
}
impl<'a> Decode<'a> for PeerAsk {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let passes = reader.read()?;
        if passes > MAX_PASSES {
            return Err(DecodeError::OutOfBounds(
                "how often a question is passed on",
            ));
        }
        Ok(PeerAsk {
            passes,
            token: reader.read()?,
            to: reader.read()?,
            hints: List8::<MAX_HINTS>::take(reader)?,
            question: reader.read()?,
        })
    }
}

/// What a peer is asked, `form u8` first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Form 0, perhaps the asker's descriptor: are you there? Answered by [`Answer::Pong`].
    Ping(Option<Box<Descriptor>>),
    /// Form 1, a key: who is nearest to it of all that you know? Answered by [`Answer::Node`]s.
    FindNode(Key),
    /// Form 2, a key: the records of this name, else who is nearest to it. Answered by
    /// [`Answer::Value`]s and [`Answer::Node`]s.
    FindValue(Key),
    /// Form 3, a record: keep it. Answered by [`Answer::Stored`].
    Store(Box<Descriptor>),
    /// Form 4, bytes sealed to the onion key of the peer: a [`super::Signal`]. Answered by
    /// [`Answer::Introduced`].
    Introduce(Vec<u8>),
}

impl Encode for Question {
    fn encoded_len(&self) -> usize {
        1 + match self {
            Question::Ping(descriptor) => descriptor.as_ref().map_or(0, |d| d.encoded_len()),
            Question::FindNode(_) | Question::FindValue(_) => 20,
            Question::Store(record) => record.encoded_len(),
            Question::Introduce(sealed) => Bytes16::<MAX_SEALED>::len(sealed),
        }
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        match self {
            Question::Ping(descriptor) => {
                writer.write::<u8>(&0)?;
                let descriptor = descriptor.as_ref();
                descriptor.map_or(Ok(()), |descriptor| writer.write(&**descriptor))
            }
            Question::FindNode(key) => {
                writer.write::<u8>(&1)?;
                writer.write(key)
            }
            Question::FindValue(key) => {
                writer.write::<u8>(&2)?;
                writer.write(key)
            }
            Question::Store(record) => {
                writer.write::<u8>(&3)?;
                writer.write(&**record)
            }
            Question::Introduce(sealed) => {
                writer.write::<u8>(&4)?;
                Bytes16::<MAX_SEALED>::put(sealed, writer)
            }
        }
    }
}
impl<'a> Decode<'a> for Question {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match reader.read::<u8>()? {
            0 if reader.is_empty() => Ok(Question::Ping(None)),
            0 => Ok(Question::Ping(Some(Box::new(reader.read()?)))),
            1 => reader.read().map(Question::FindNode),
            2 => reader.read().map(Question::FindValue),
            3 => Ok(Question::Store(Box::new(reader.read()?))),
            4 => Bytes16::<MAX_SEALED>::take(reader).map(Question::Introduce),
            _ => Err(DecodeError::Invalid("a question's form")),
        }
    }
}

/// PEER_ANSWER: `token u64, remaining u8`, the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAnswer {
    /// The question's.
    pub token: u64,
    /// How many more messages of this answer follow.
    pub remaining: u8,
    /// What is answered.
    pub answer: Answer,
}

impl Encode for PeerAnswer {
    fn encoded_len(&self) -> usize {
        9 + self.answer.encoded_len()
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.write(&self.token)?;
        writer.write(&self.remaining)?;
        writer.write(&self.answer)
    }
}
impl<'a> Decode<'a> for PeerAnswer {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(PeerAnswer {
            token: reader.read()?,
            remaining: reader.read()?,
            answer: reader.read()?,
        })
    }
}

/// What a peer answers, `form u8` first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Form 0, a descriptor: it is there, and this is what it says of itself.
    Pong(Box<Descriptor>),
    /// Form 1, a descriptor: one of those that are near.
    Node(Box<Descriptor>),
    /// Form 2, a record.
    Value(Box<Descriptor>),
    /// Form 3, `kept u8`: whether the record is kept.
    Stored(bool),
    /// Form 4, bytes sealed to the asker.
    Introduced(Vec<u8>),
    /// Form 5, a reason: nothing else comes.
    Failed(AskFailure),
}

numbers! {
    /// Why a question is not answered.
    AskFailure(u8) {
        /// There is nothing to say.
        NOTHING = 0,
        /// The peer is not linked to who was to pass the question on, nor known to it.
        UNREACHABLE = 1,
        /// As many questions as may be are under way.
        BUSY = 2,
        /// The peer does not do this.
        REFUSED = 3,
        /// The question makes no sense, or was asked before.
        PROTOCOL = 4,
    }
}

impl Encode for Answer {
    fn encoded_len(&self) -> usize {
        1 + match self {
            Answer::Pong(body) | Answer::Node(body) | Answer::Value(body) => body.encoded_len(),
            Answer::Stored(_) | Answer::Failed(_) => 1,
            Answer::Introduced(sealed) => Bytes16::<MAX_SEALED>::len(sealed),
        }
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        match self {
            Answer::Pong(descriptor) => {
                writer.write::<u8>(&0)?;
                writer.write(&**descriptor)
            }
            Answer::Node(descriptor) => {
                writer.write::<u8>(&1)?;
                writer.write(&**descriptor)
            }
            Answer::Value(record) => {
                writer.write::<u8>(&2)?;
                writer.write(&**record)
            }
            Answer::Stored(kept) => {
                writer.write::<u8>(&3)?;
                writer.write(&u8::from(*kept))
            }
            Answer::Introduced(sealed) => {
                writer.write::<u8>(&4)?;
                Bytes16::<MAX_SEALED>::put(sealed, writer)
            }
            Answer::Failed(failure) => {
                writer.write::<u8>(&5)?;
                writer.write(failure)
            }
        }
    }
}
impl<'a> Decode<'a> for Answer {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match reader.read::<u8>()? {
            0 => Ok(Answer::Pong(Box::new(reader.read()?))),
            1 => Ok(Answer::Node(Box::new(reader.read()?))),
            2 => Ok(Answer::Value(Box::new(reader.read()?))),
            3 => match reader.read::<u8>()? {
                0 => Ok(Answer::Stored(false)),
                1 => Ok(Answer::Stored(true)),
                _ => Err(DecodeError::Invalid("whether a record is kept")),
            },
            4 => Bytes16::<MAX_SEALED>::take(reader).map(Answer::Introduced),
            5 => reader.read().map(Answer::Failed),
            _ => Err(DecodeError::Invalid("an answer's form")),
        }
    }
}

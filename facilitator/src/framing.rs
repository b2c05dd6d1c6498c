//! Where one message of BitTorrent's ends and the next begins.

use bytes::BytesMut;

/// The longest message of a peer's: a bitfield of as many pieces as a torrent can have.
pub(crate) const MAX_MESSAGE_LEN: usize = chive_node::torrent::MAX_PIECES as usize / 8 + 1;

/// A peer announced a longer message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Takes the next message with its length, once all of it has come.
pub(crate) fn next_frame(incoming: &mut BytesMut) -> Result<Option<BytesMut>, TooLong> {
    let Some(length) = incoming.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length) as usize;
    if length > MAX_MESSAGE_LEN {
        return Err(TooLong);
    }
    let whole = size_of::<u32>() + length;
    if incoming.len() < whole {
        incoming.reserve(whole - incoming.len());
        return Ok(None);
    }
    Ok(Some(incoming.split_to(whole)))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{MAX_MESSAGE_LEN, TooLong, next_frame};

    #[test]
    fn messages_come_whole_or_not_yet_or_are_too_long() {
        let mut incoming = BytesMut::from(&b"\0\0\0\x02ab\0\0\0\0\0\0\0\x01"[..]);
        let mut next = || next_frame(&mut incoming);
        assert_eq!(next(), Ok(Some(BytesMut::from(&b"\0\0\0\x02ab"[..]))));
        assert_eq!(next(), Ok(Some(BytesMut::from(&[0; 4][..]))));
        assert_eq!(next(), Ok(None));
        incoming.extend_from_slice(b"c");
        assert_eq!(next_frame(&mut incoming).unwrap().unwrap().len(), 5);
        let longest = u32::try_from(MAX_MESSAGE_LEN).unwrap();
        let mut incoming = BytesMut::from(&longest.to_be_bytes()[..]);
        assert_eq!(next_frame(&mut incoming), Ok(None));
        let mut incoming = BytesMut::from(&(longest + 1).to_be_bytes()[..]);
        assert_eq!(next_frame(&mut incoming), Err(TooLong));
    }
}

//! The little of DER that an X.509 certificate of Tor's needs (X.690).

use crate::wire::{DecodeError, Reader};

/// Tags.
pub(crate) mod tag {
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const BIT_STRING: u8 = 0x03;
    pub(crate) const NULL: u8 = 0x05;
    pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
    pub(crate) const UTF8_STRING: u8 = 0x0c;
    pub(crate) const UTC_TIME: u8 = 0x17;
    pub(crate) const GENERALIZED_TIME: u8 = 0x18;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;
    pub(crate) const VERSION: u8 = 0xa0;
}

/// An element: tag, length, `contents`.
pub(crate) fn element(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let len: usize = contents.iter().map(|part| part.len()).sum();
    let mut bytes = vec![tag];
    let len_bytes = len.to_be_bytes();
    let significant = len_bytes.iter().skip_while(|byte| **byte == 0);
    if len >= 0x80 {
        // A usize has eight bytes at most, so this is no loss.
        bytes.push(0x80 | significant.clone().count() as u8);
        bytes.extend(significant);
    } else {
        bytes.push(len as u8);
    }
    contents
        .iter()
        .for_each(|part| bytes.extend_from_slice(part));
    bytes
}

/// A bit string of whole bytes.
pub(crate) fn bit_string(contents: &[u8]) -> Vec<u8> {
    element(tag::BIT_STRING, &[&[0], contents])
}

/// A time, of seconds since 1970, as RFC 5280 wants it: UTCTime before 2050, GeneralizedTime from
/// then on.
pub(crate) fn time(unix: u64) -> Vec<u8> {
    let (days, second) = (unix / 86_400, unix % 86_400);
    // Days to a date in the proleptic Gregorian calendar, by eras of 400 years from 0000-03-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let rest = format!("{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
    if year < 2050 {
        element(
            tag::UTC_TIME,
            &[format!("{:02}{rest}", year % 100).as_bytes()],
        )
    } else {
        element(
            tag::GENERALIZED_TIME,
            &[format!("{year:04}{rest}").as_bytes()],
        )
    }
}

/// The next element: its tag, all its bytes, its contents.
pub(crate) fn any<'a>(reader: &mut Reader<'a>) -> Result<(u8, &'a [u8], &'a [u8]), DecodeError> {
    let mut whole = reader.clone();
    let [tag, first] = reader.array()?;
    let len = match first {
        0..=0x7f => usize::from(first),
        0x81 => usize::from(reader.read::<u8>()?),
        0x82 => usize::from(reader.read::<u16>()?),
        _ => return Err(DecodeError::Invalid("a DER length")),
    };
    let contents = reader.take(len)?;
    let whole = whole.take(whole.remaining() - reader.remaining())?;
    Ok((tag, whole, contents))
}

/// The contents of the next element, which must have this tag.
pub(crate) fn expect<'a>(reader: &mut Reader<'a>, tag: u8) -> Result<&'a [u8], DecodeError> {
    match any(reader)? {
        (found, _, contents) if found == tag => Ok(contents),
        _ => Err(DecodeError::Invalid("a DER tag")),
    }
}

/// The whole bytes of the next bit string.
pub(crate) fn expect_bit_string<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    let mut contents = Reader::new(expect(reader, tag::BIT_STRING)?);
    if contents.read::<u8>()? != 0 {
        return Err(DecodeError::Invalid("a DER bit string"));
    }
    Ok(contents.rest())
}

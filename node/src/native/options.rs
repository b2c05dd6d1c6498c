//! Options from a TOML file, for those that neither a flag nor the environment gives.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::failure::Failure;

/// Reads a TOML file of options. A key that `T` does not know is an error that names its line.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(format!(
            "cannot read the configuration {}: {error}",
            path.display()
        ))
    })?;
    toml::from_str(&text).map_err(|error| {
        // toml's own words have the line, its text and a mark under what is wrong.
        Failure::new(format!(
            "the configuration {} is wrong: {error}",
            path.display()
        ))
    })
}

/// `first_of!(Options: flags, file; a, b, c)`: each field from `flags`, or from `file` where
/// `flags` has none. Naming all fields is checked by the compiler.
#[macro_export]
macro_rules! first_of {
    ($type:ident: $first:expr, $second:expr; $($field:ident),* $(,)?; lists $($list:ident),* $(,)?) => {{
        let (first, second) = ($first, $second);
        $type {
            $($field: first.$field.or(second.$field),)*
            $($list: if first.$list.is_empty() { second.$list } else { first.$list },)*
        }
    }};
}

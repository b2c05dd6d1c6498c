//! A program's folder for what must last: its keys, made at the first run, which nobody else may
//! read.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chacha20::ChaCha20Rng;
use zeroize::Zeroizing;

use super::failure::Failure;
use super::random;
use super::webrtc::DtlsCertificate;
use crate::link::Identity;

/// The identity's file within the folder.
const IDENTITY: &str = "identity";

/// The file of what is shown on DTLS: beside the keys, because invitations name it.
const DTLS: &str = "dtls";

/// A file of secrets is below 1 KiB; more than this is not one.
const MAX_SECRET_BYTES: u64 = 16 * 1024;

/// A data folder that this process has for itself.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// The system's lock goes with this file.
    _lock: File,
}

impl DataDir {
    /// Opens the folder, making it (mode 0700) if it is not there, and locks it against other
    /// processes.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|error| {
            Failure::new(format!("cannot make the data folder {shown}: {error}"))
        })?;
        let metadata = fs::metadata(path).map_err(|error| {
            Failure::new(format!("cannot look at the data folder {shown}: {error}"))
        })?;
        refuse_wider(path, &metadata, 0o700)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(|error| {
                Failure::new(format!("cannot write in the data folder {shown}: {error}"))
            })?;
        match lock.try_lock() {
            Ok(()) => Ok(DataDir {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(Failure::new(format!(
                "another process uses the data folder {shown}: two with the same keys would take \
                 each other's links"
            ))),
            Err(TryLockError::Error(error)) => Err(Failure::new(format!(
                "cannot lock the data folder {shown}: {error}"
            ))),
        }
    }

    /// The keys in the folder, made now (mode 0600) if there are none.
    pub fn identity(&self) -> Result<Arc<Identity>, Failure> {
        let path = self.path.join(IDENTITY);
        if let Some(bytes) = read_secret(&path)? {
            let identity = Identity::from_secret_bytes(&bytes).map_err(|error| {
                Failure::new(format!(
                    "the key file {} is damaged ({error}): restore it, or remove it and become \
                     another router",
                    path.display()
                ))
            })?;
            return Ok(Arc::new(identity));
        }
        let identity = Identity::generate(&mut generator()?)
            .and_then(|identity| Ok((identity.to_secret_bytes()?, identity)))
            .map_err(|error| Failure::new(format!("cannot make keys: {error}")));
        let (bytes, identity) = identity?;
        write_secret(&path, &bytes)?;
        Ok(Arc::new(identity))
    }

    /// The DTLS certificate in the folder, made now (mode 0600) if there is none or its life is
    /// over at `now`, in seconds since 1970.
    pub fn dtls_certificate(&self, now: u64) -> Result<DtlsCertificate, Failure> {
        let path = self.path.join(DTLS);
        if let Some(bytes) = read_secret(&path)? {
            let kept = DtlsCertificate::from_secret_bytes(&bytes).map_err(|error| {
                Failure::new(format!(
                    "the key file {} is damaged ({error}): restore it, or remove it and \
                     invitations made until now lead nowhere",
                    path.display()
                ))
            })?;
            if kept.is_good(now) {
                return Ok(kept);
            }
        }
        let made = DtlsCertificate::generate(now, &mut generator()?)
            .map_err(|_| Failure::new("cannot make a key for DTLS"))?;
        write_secret(&path, &made.to_secret_bytes())?;
        Ok(made)
    }
}

fn generator() -> Result<ChaCha20Rng, Failure> {
    random::generator()
        .map_err(|error| Failure::new(format!("the system gives no random numbers: {error}")))
}

/// A file of secrets, if there is one.
fn read_secret(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
    let shown = path.display();
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Failure::new(format!(
                "cannot open the key file {shown}: {error}"
            )));
        }
    };
    let metadata = file
        .metadata()
        .map_err(|error| Failure::new(format!("cannot look at the key file {shown}: {error}")))?;
    refuse_wider(path, &metadata, 0o600)?;
    let mut bytes = Zeroizing::new(Vec::new());
    (&mut file)
        .take(MAX_SECRET_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new(format!("cannot read the key file {shown}: {error}")))?;
    Ok(Some(bytes))
}

fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    write_new(path, bytes).map_err(|error| {
        Failure::new(format!(
            "cannot write the key file {}: {error}",
            path.display()
        ))
    })
}

/// Refuses what others may read or write: keys that lay open are keys no longer.
fn refuse_wider(path: &Path, metadata: &fs::Metadata, mode: u32) -> Result<(), Failure> {
    let actual = metadata.permissions().mode() & 0o777;
    if actual & !mode != 0 {
        let shown = path.display();
        return Err(Failure::new(format!(
            "{shown} is open to others (mode {actual:04o}): make it yours alone with \
             `chmod {mode:o} {shown}`, and if it held keys, think about new ones"
        )));
    }
    // Root reads everything anyway, so root may use what belongs to another.
    let ours = effective_user();
    if metadata.uid() != ours && ours != 0 {
        return Err(Failure::new(format!(
            "{} belongs to another user",
            path.display()
        )));
    }
    Ok(())
}

fn effective_user() -> u32 {
    // SAFETY: geteuid takes nothing, cannot fail and only reads this process's credentials.
    unsafe { libc::geteuid() }
}

/// Writes a file that is whole or not there, readable by its owner alone.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn keys_are_made_once_and_for_their_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/data");
        let first = DataDir::open(&path).unwrap().identity().unwrap();
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join(IDENTITY)), 0o600);
        let second = DataDir::open(&path).unwrap().identity().unwrap();
        assert_eq!(first.ids(), second.ids());
        assert_eq!(first.onion_key(), second.onion_key());
    }

    #[test]
    fn what_invitations_name_lasts_as_long_as_it_is_good() {
        const NOW: u64 = 1_800_000_000;
        const DAY: u64 = 86_400;
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(&folder.path().join("data")).unwrap();
        let first = data.dtls_certificate(NOW).unwrap();
        let file = folder.path().join("data").join(DTLS);
        assert_eq!(mode(&file), 0o600);
        let later = data.dtls_certificate(NOW + 300 * DAY).unwrap();
        assert_eq!(later.sha256(), first.sha256());
        let renewed = data.dtls_certificate(NOW + 340 * DAY).unwrap();
        assert_ne!(renewed.sha256(), first.sha256());
        let kept = data.dtls_certificate(NOW + 341 * DAY).unwrap();
        assert_eq!(kept.sha256(), renewed.sha256());
        fs::write(&file, b"damaged").unwrap();
        let refused = data.dtls_certificate(NOW).unwrap_err().to_string();
        assert!(refused.contains("damaged"), "{refused}");
    }

    #[test]
    fn wider_modes_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        DataDir::open(&path).unwrap().identity().unwrap();
        let file = path.join(IDENTITY);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = DataDir::open(&path)
            .unwrap()
            .identity()
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("mode 0640") && refused.contains("chmod 600"),
            "{refused}"
        );
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let refused = DataDir::open(&path).unwrap_err().to_string();
        assert!(
            refused.contains("mode 0755") && refused.contains("chmod 700"),
            "{refused}"
        );
    }

    #[test]
    fn a_damaged_file_is_named_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        DataDir::open(&path).unwrap().identity().unwrap();
        let file = path.join(IDENTITY);
        let bytes = fs::read(&file).unwrap();
        for wrong in [&bytes[..bytes.len() - 1], &[], b"-----BEGIN", &[0xff; 700]] {
            fs::write(&file, wrong).unwrap();
            let refused = DataDir::open(&path)
                .unwrap()
                .identity()
                .unwrap_err()
                .to_string();
            assert!(
                refused.contains("damaged") && refused.contains("identity"),
                "{refused}"
            );
            assert_eq!(fs::read(&file).unwrap(), wrong);
        }
    }

    #[test]
    fn one_process_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let held = DataDir::open(&path).unwrap();
        let refused = DataDir::open(&path).unwrap_err().to_string();
        assert!(refused.contains("another process"), "{refused}");
        drop(held);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_place_where_nothing_can_be_written_is_named() {
        // Even root makes no folder below a file.
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let refused = DataDir::open(&file.join("data")).unwrap_err().to_string();
        assert!(refused.contains("cannot make the data folder"), "{refused}");
    }
}

//! Keys of the cluster: an authority of its own, and one certificate a replica, all made once for a state directory.
//!
//! The authority's private key is thrown away after use: nobody can join the cluster later with a forged certificate.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::LauncherError;
use crate::replica::config::{KeyFiles, peer_name};

/// Where the files of replica `id` stand.
pub fn files(directory: &Path, id: u8) -> KeyFiles {
    KeyFiles {
        authority: directory.join("authority.pem"),
        certificate: directory.join(format!("replica-{id}.pem")),
        key: directory.join(format!("replica-{id}.key")),
    }
}

/// Makes all keys, unless they are there.
pub fn ensure(directory: &Path, count: u8, cluster: &str) -> Result<(), LauncherError> {
    let complete = (1..=count).all(|id| {
        let files = files(directory, id);
        files.authority.exists() && files.certificate.exists() && files.key.exists()
    });
    if complete {
        return Ok(());
    }
    generate(directory, count, cluster)
        .map_err(|source| LauncherError::State { path: directory.to_owned(), source })
}

fn generate(directory: &Path, count: u8, cluster: &str) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let authority_key = KeyPair::generate().map_err(io::Error::other)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("brolga cluster {cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = params.self_signed(&authority_key).map_err(io::Error::other)?;
    let issuer = Issuer::new(params, authority_key);
    for id in 1..=count {
        let files = files(directory, id);
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let mut params = CertificateParams::new([peer_name(id)]).map_err(io::Error::other)?;
        params.distinguished_name.push(DnType::CommonName, peer_name(id));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &issuer).map_err(io::Error::other)?;
        write_private(&files.key, &key.serialize_pem())?;
        write_private(&files.certificate, &certificate.pem())?;
    }
    sync_directory(directory)?;
    // Last, so that a set that was interrupted is made again as a whole. Its name comes only when its bytes are on the disk:
    // a power cut would else leave an empty file, and logs that nobody can use any more.
    let authority_file = files(directory, 1).authority;
    let temporary = authority_file.with_extension("new");
    write_private(&temporary, &authority.pem())?;
    fs::rename(&temporary, &authority_file)?;
    sync_directory(directory)?;
    directory.parent().map_or(Ok(()), sync_directory)
}

/// Makes the names in a directory durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::{ensure, files};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn keys_are_private_and_made_once() {
        let directory = std::env::temp_dir().join(format!("brolga-keys-{}", std::process::id()));
        ensure(&directory, 2, "test").unwrap();
        let key = files(&directory, 2).key;
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let before = fs::read(&key).unwrap();
        ensure(&directory, 2, "test").unwrap();
        assert_eq!(fs::read(&key).unwrap(), before);
        assert!(fs::read_to_string(files(&directory, 1).certificate).unwrap().contains("BEGIN CERTIFICATE"));
        fs::remove_dir_all(&directory).unwrap();
    }
}

//! Keys of the cluster: an authority of its own, and one certificate a replica, whose name is its id.
//!
//! The authority's private key stays where the cluster was made, for `brolga member add`. Replicas on other machines do not have it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::LauncherError;
use crate::private::make_private;
use crate::replica::config::{KeyFiles, peer_name};
use crate::replica::pem;

/// Where the files of replica `id` stand.
pub fn files(directory: &Path, id: u8) -> KeyFiles {
    KeyFiles {
        authority: directory.join("authority.pem"),
        certificate: directory.join(format!("replica-{id}.pem")),
        key: directory.join(format!("replica-{id}.key")),
    }
}

/// Where the authority's private key stands: whoever has it can let replicas join. No replica needs it.
pub fn authority_key(directory: &Path) -> PathBuf {
    directory.join("authority.key")
}

/// Makes the keys that are not there: all, or, where there is an authority, those of replicas that joined later.
pub fn ensure(directory: &Path, ids: &[u8], cluster: &str) -> Result<(), LauncherError> {
    let failed = |source| LauncherError::State { path: directory.to_owned(), source };
    if !files(directory, 1).authority.exists() {
        return generate(directory, ids, cluster).map_err(failed);
    }
    let lacks =
        |id: &&u8| !files(directory, **id).certificate.exists() || !files(directory, **id).key.exists();
    ids.iter().filter(lacks).try_for_each(|&id| add(directory, directory, id, cluster))
}

/// Makes the keys of one more replica into `output`, signed by the authority in `directory`.
pub fn add(directory: &Path, output: &Path, id: u8, cluster: &str) -> Result<(), LauncherError> {
    let path = authority_key(directory);
    let text = fs::read_to_string(&path)
        .map_err(|source| LauncherError::NoAuthority { path: path.clone(), source })?;
    let failed = |source| LauncherError::State { path: output.to_owned(), source };
    let make = || {
        let key = KeyPair::from_pem(&text).map_err(io::Error::other)?;
        make_private(output)?;
        certify(output, id, &Issuer::new(authority_params(cluster), key))?;
        sync_directory(output)
    };
    make().map_err(failed)
}

/// Removes the keys of a replica that is no member any more.
pub fn remove(directory: &Path, id: u8) {
    let files = files(directory, id);
    let _ = fs::remove_file(files.key);
    let _ = fs::remove_file(files.certificate);
}

fn authority_params(cluster: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("brolga cluster {cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// The key and the certificate of one replica.
fn certify(directory: &Path, id: u8, issuer: &Issuer<'_, KeyPair>) -> io::Result<()> {
    let files = files(directory, id);
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let mut params = CertificateParams::new([peer_name(id)]).map_err(io::Error::other)?;
    params.distinguished_name.push(DnType::CommonName, peer_name(id));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, issuer).map_err(io::Error::other)?;
    write_private(&files.key, &key.serialize_pem())?;
    write_private(&files.certificate, &certificate.pem())
}

fn generate(directory: &Path, ids: &[u8], cluster: &str) -> io::Result<()> {
    make_private(directory)?;
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let params = authority_params(cluster);
    let authority = params.self_signed(&key).map_err(io::Error::other)?;
    write_private(&authority_key(directory), &key.serialize_pem())?;
    let issuer = Issuer::new(params, key);
    ids.iter().try_for_each(|&id| certify(directory, id, &issuer))?;
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
    file.write_all(pem::with_sums(text).as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::{authority_key, ensure, files, remove};
    use crate::replica::tls;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn keys_are_private_and_made_once() {
        let directory = std::env::temp_dir().join(format!("brolga-keys-{}", std::process::id()));
        ensure(&directory, &[1, 2], "test").unwrap();
        let key = files(&directory, 2).key;
        let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(authority_key(&directory)), 0o600);
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let before = fs::read(&key).unwrap();
        ensure(&directory, &[1, 2], "test").unwrap();
        assert_eq!(fs::read(&key).unwrap(), before);
        assert!(fs::read_to_string(files(&directory, 1).certificate).unwrap().contains("BEGIN CERTIFICATE"));
        // One joins, one goes; the rest stays as it is.
        remove(&directory, 1);
        ensure(&directory, &[2, 3], "test").unwrap();
        assert_eq!(fs::read(&key).unwrap(), before);
        assert!(!files(&directory, 1).key.exists());
        tls::check(&files(&directory, 3), 3).unwrap();
        fs::remove_file(authority_key(&directory)).unwrap();
        let told = ensure(&directory, &[2, 3, 4], "test").unwrap_err().to_string();
        assert!(told.contains("authority.key"), "{told}");
        fs::remove_dir_all(&directory).unwrap();
    }
}

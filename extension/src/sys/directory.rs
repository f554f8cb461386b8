//! Private directories in shared places, such as `/tmp`.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::Path;

/// Creates a directory that only this user can access, and its parents. An existing directory is accepted if it is not
/// a symbolic link and belongs to this user or root. Write permission for other users is removed.
pub fn make_private(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check(path),
        made => made,
    }
}

fn check(path: &Path) -> io::Result<()> {
    let denied = |reason: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    let mut options = File::options();
    let options = options.read(true);
    let opened = options
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(path);
    let directory = match opened {
        Err(_) if path.is_symlink() => {
            return denied("it is a symbolic link, which is not followed".to_owned());
        }
        opened => opened?,
    };
    let metadata = directory.metadata()?;
    // SAFETY: geteuid has no precondition and does not fail.
    let user = unsafe { libc::geteuid() };
    let owner = metadata.uid();
    if owner != user && owner != 0 {
        return denied(format!(
            "it belongs to user {owner}, and this process is user {user}"
        ));
    }
    let mode = metadata.mode();
    let others_write = 0o022;
    if owner == user && mode & others_write != 0 {
        directory.set_permissions(Permissions::from_mode(mode & 0o7777 & !others_write))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_created_directory_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        make_private(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        make_private(&path).unwrap();
        assert_eq!(mode(&path), 0o755, "other users cannot write any more");
    }

    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::create_dir(&target).unwrap();
        symlink(&target, &link).unwrap();
        let error = make_private(&link).unwrap_err().to_string();
        assert!(error.contains("symbolic link"), "{error}");
        fs::remove_dir(&target).unwrap();
        assert!(make_private(&link).is_err(), "one that leads nowhere");
        assert!(!target.exists());
        let file = folder.path().join("file");
        fs::write(&file, "text").unwrap();
        assert!(make_private(&file).is_err());
    }

    #[test]
    fn a_directory_of_another_user_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache");
        fs::create_dir(&path).unwrap();
        if chown(&path, Some(12_345), None).is_err() {
            eprintln!("skipped: only root can change the owner");
            return;
        }
        let error = make_private(&path).unwrap_err().to_string();
        assert!(error.contains("belongs to user 12345"), "{error}");
    }
}

//! Files that are either complete or not there.

use std::fs;
use std::io::Write;
use std::path::Path;

use crate::DataError;

/// Writes `bytes` to a new file beside `path` and renames it, so that no reader ever sees half a file and a failure
/// leaves an old one as it was. Missing parent folders are created.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    let failed = |action, path: &Path| {
        let path = path.to_path_buf();
        move |source| DataError::Io { action, path, source }
    };
    let folder = match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => path,
    };
    fs::create_dir_all(folder).map_err(failed("create the folder", folder))?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".langevin-");
    // Temporary files are private to their user; this one becomes an ordinary file, with the rights of the umask.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(failed("create a file in", folder))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed("write", path))?;
    file.persist(path).map_err(|error| failed("replace", path)(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creates_folders_replaces_files_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/file.bin");
        write(&path, b"one").unwrap();
        write(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_the_file_as_far_as_the_umask_allows() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        write(&ours, b"x").unwrap();
        fs::write(&plain, b"x").unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }

    #[test]
    fn failures_name_the_file_and_keep_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        // The parent "folder" is a file.
        let file = folder.path().join("file");
        fs::write(&file, b"old").unwrap();
        let error = write(&file.join("x.png"), b"new").unwrap_err();
        assert!(matches!(&error, DataError::Io { action: "create the folder", path, .. } if *path == file), "{error}");
        assert_eq!(fs::read(&file).unwrap(), b"old");
        // The file is a folder that is not empty.
        let error = write(folder.path(), b"new").unwrap_err();
        assert!(matches!(error, DataError::Io { action: "replace", .. }), "{error}");
        assert_eq!(fs::read(&file).unwrap(), b"old");
        assert!(matches!(write(Path::new("/"), b"new"), Err(DataError::Io { .. })));
        assert!(matches!(write(Path::new(""), b"new"), Err(DataError::Io { .. })));
    }
}

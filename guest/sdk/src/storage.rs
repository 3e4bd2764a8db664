//! Files that a power cut leaves whole.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// Makes a file hold this, whatever happens meanwhile: after a power cut it holds either all of what it held before or all of
/// the new content. A file beside it, with `.new` at the end of its name, is written, brought to the disk, and renamed over it.
///
/// Renaming alone is not enough: the name may reach the disk before the content does, and the file then is empty, or holds
/// zeros. Each call is at least one write to flash memory: keep what changes often in memory, and write it as rarely as its loss
/// allows. And it waits for the disk, which may take seconds where others write, too: let the manifest's `limits.wake_up_ms` and
/// `limits.self_test_ms` have room for that.
///
/// # Errors
/// What the device says of the file that could not be written; the old content is still there then.
pub fn replace(path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> io::Result<()> {
    let path = path.as_ref();
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file = File::create(&new)?;
    file.write_all(content.as_ref())?;
    file.sync_all()?;
    drop(file);
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::replace;

    #[test]
    fn the_new_content_takes_the_place_of_the_old_and_nothing_is_left_beside_it() {
        let folder = std::env::temp_dir().join(format!("iotwasm-guest-storage-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("count");
        for content in ["a longer one", "2"] {
            replace(&file, content).unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), content);
        }
        let names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["count"]);
        // What cannot be written leaves the old content.
        std::fs::create_dir(folder.join("count.new")).unwrap();
        replace(&file, "3").unwrap_err();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "2");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

//! A file system in a file, mounted through a loop device.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system, mounted for as long as this lives.
pub struct LoopDisk {
    pub at: PathBuf,
}

impl LoopDisk {
    pub fn mount(kind: &str, image: &Path, at: &Path) -> Result<LoopDisk, String> {
        std::fs::create_dir_all(at).unwrap();
        run("mount", &["-t", kind, "-o", "loop", &text(image), &text(at)])
            .map(|()| LoopDisk { at: at.to_owned() })
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        if let Err(why) =
            run("umount", &[&text(&self.at)]).or_else(|_| run("umount", &["-l", &text(&self.at)]))
        {
            eprintln!("could not unmount {}: {why}", self.at.display());
        }
    }
}

/// Makes `image` an empty ext4 of `bytes`.
pub fn format_ext4(image: &Path, bytes: u64) {
    std::fs::File::create(image).unwrap().set_len(bytes).unwrap();
    run("mke2fs", &["-q", "-F", "-t", "ext4", "-m", "0", &text(image)]).unwrap();
}

/// Makes `image` an empty FAT32 of `bytes`.
pub fn format_fat(image: &Path, bytes: u64) -> Result<(), String> {
    std::fs::File::create(image).unwrap().set_len(bytes).unwrap();
    run("mkfs.vfat", &["-F", "32", &text(image)])
}

/// Whether it works here; says so where it does not.
pub fn can_loop_mount() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    std::fs::File::create(&image).unwrap().set_len(2 << 20).unwrap();
    let made = run("mke2fs", &["-q", "-F", "-t", "ext4", &text(&image)]);
    let mounted = made.and_then(|()| LoopDisk::mount("ext4", &image, &folder.path().join("disk")));
    if let Err(why) = &mounted {
        eprintln!(
            "\n*** SKIPPED: this test mounts an ext4 in a file (root, mke2fs, loop devices): {why} ***\n"
        );
    }
    mounted.is_ok()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

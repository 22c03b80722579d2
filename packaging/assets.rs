//! Packs the files of the pages as they go into the binary, before it is compiled: as zlib streams, a third of their
//! size. Browsers take them as they are (`Content-Encoding: deflate`), which is what a slow network is thankful for.

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "cargo and its scripts talk so")]

use flate2::{Compression, write::ZlibEncoder};
use std::io::{Error, Write};
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Error> {
    println!("cargo::rerun-if-changed=assets");
    let out = env::var_os("OUT_DIR").ok_or_else(|| Error::other("cargo has set no OUT_DIR"))?;
    let out = PathBuf::from(out).join("assets");
    if out.exists() {
        // A file that is gone must not stay in the binary.
        fs::remove_dir_all(&out)?;
    }
    for folder in fs::read_dir("assets")? {
        let folder = folder?;
        let to = out.join(folder.file_name());
        fs::create_dir_all(&to)?;
        for file in fs::read_dir(folder.path())? {
            let file = file?;
            pack(&file.path(), &to.join(file.file_name()))?;
        }
    }
    Ok(())
}

fn pack(from: &Path, to: &Path) -> Result<(), Error> {
    let mut packer = ZlibEncoder::new(fs::File::create(to)?, Compression::best());
    packer.write_all(&fs::read(from)?)?;
    packer.finish()?;
    Ok(())
}

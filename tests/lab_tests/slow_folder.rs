//! Folders with files at a limited speed.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use lab::slow_folder::{FileRead, SlowFolder, SlowFolderError};

use crate::folders::is_root;

const SPEED: u64 = 20_000_000;

fn mount(folder: &Path) -> Option<SlowFolder> {
    mounted(SlowFolder::mount(&[("function", folder)], SPEED))
}

/// A slow folder, or `None` where none can be mounted. For root, the device must be missing.
fn mounted(slow: Result<SlowFolder, SlowFolderError>) -> Option<SlowFolder> {
    match slow {
        Ok(slow) => Some(slow),
        Err(why_not) => {
            println!("without slow folders: {why_not}");
            assert!(
                !is_root() || matches!(why_not, SlowFolderError::Device(_)),
                "{why_not}"
            );
            None
        }
    }
}

#[test]
fn files_are_read_once_at_the_speed() {
    let source = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..2_000_000_u32).map(|at| (at % 251) as u8).collect();
    fs::write(source.path().join("weights"), &content).unwrap();
    let Some(slow) = mount(source.path()) else {
        return;
    };
    let file = slow.folder("function").join("weights");
    assert_eq!(fs::metadata(&file).unwrap().len(), 2_000_000);
    assert_eq!(slow.bytes(), 0);

    let started = Instant::now();
    assert!(fs::read(&file).unwrap() == content);
    assert!(started.elapsed() >= Duration::from_millis(100));
    assert_eq!(slow.bytes(), 2_000_000);
    assert!(fs::read(&file).unwrap() == content);
    assert_eq!(slow.bytes(), 2_000_000, "the page cache has it");
}

#[test]
fn a_folder_has_the_names_modes_and_programs_of_its_source() {
    let source = tempfile::tempdir().unwrap();
    // In a child process, as programs of `Folders` are.
    let script = "mkdir a && printf '#!/bin/sh\\necho ran $0\\n' >a/program && chmod 755 a/program";
    let mut make = Command::new("/bin/sh");
    make.args(["-c", script]).current_dir(source.path());
    assert!(make.status().unwrap().success());
    for number in 0..500 {
        let file = format!("a-file-with-a-name-that-fills-the-list-{number}");
        fs::write(source.path().join(file), "").unwrap();
    }
    let Some(slow) = mount(source.path()) else {
        return;
    };
    let folder = slow.folder("function");
    let names = |of: &Path| {
        let entries = fs::read_dir(of).unwrap();
        let mut names: Vec<_> = entries.map(|one| one.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&folder), names(source.path()));
    assert!(!folder.join("missing").exists());
    let program = folder.join("a/program");
    let mode = fs::metadata(&program).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    let output = Command::new(&program).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed, format!("ran {}\n", program.display()));
    assert!(fs::write(folder.join("new"), "").is_err());
}

#[test]
fn by_page_only_the_used_pages_are_read() {
    let source = tempfile::tempdir().unwrap();
    let file = source.path().join("library");
    fs::write(&file, vec![7; 64 * 4096]).unwrap();
    let Some(slow) = mounted(SlowFolder::by_page(&[("function", source.path())])) else {
        return;
    };
    let opened = fs::File::open(slow.folder("function").join("library")).unwrap();
    for page in [40, 3] {
        opened.read_at(&mut [0; 100], page * 4096 + 5).unwrap();
    }
    let read = |page: u64| FileRead {
        path: file.clone(),
        offset: page * 4096,
        length: 4096,
    };
    assert_eq!(slow.reads(), [read(40), read(3)]);
}

#[test]
fn a_folder_goes_with_its_value() {
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join("file"), "content").unwrap();
    let Some(slow) = mount(source.path()) else {
        return;
    };
    let folder = slow.folder("function");
    let point = folder.parent().unwrap().to_owned();
    assert!(folder.join("file").exists());
    drop(slow);
    assert!(!point.exists());
}

//! The probe image through the built executable: what it holds, by programs that did not write it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// An executable for Linux on this machine type with segments of these kinds, and nothing in it.
fn executable(machine: u16, segments: &[u32]) -> Vec<u8> {
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
    file.resize(64, 0);
    file[18..20].copy_from_slice(&machine.to_le_bytes());
    file[32..40].copy_from_slice(&64u64.to_le_bytes());
    file[54..56].copy_from_slice(&56u16.to_le_bytes());
    file[56..58].copy_from_slice(&u16::try_from(segments.len()).unwrap().to_le_bytes());
    for kind in segments {
        let at = file.len();
        file.resize(at + 56, 0);
        file[at..at + 4].copy_from_slice(&kind.to_le_bytes());
    }
    file
}

const LOAD: u32 = 1;
const INTERPRETER: u32 = 3;

fn cknet(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cknet"));
    command.current_dir(folder).args(["image"]).args(arguments).env("NO_COLOR", "1");
    command.output().unwrap()
}

/// What a program prints.
fn said(folder: &Path, words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Follows a descriptor: its size and digest have to be those of the blob.
fn follow(layout: &Path, descriptor: &Value, media_type: &str) -> std::path::PathBuf {
    assert_eq!(descriptor["mediaType"], media_type);
    let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let path = layout.join("blobs/sha256").join(digest);
    assert_eq!(fs::metadata(&path).unwrap().len(), descriptor["size"].as_u64().unwrap());
    let sum = said(layout, &["sha256sum", path.to_str().unwrap()]);
    assert!(sum.starts_with(digest), "{sum}");
    path
}

#[test]
fn the_image_is_a_layout_whose_digests_and_media_types_are_right() {
    let folder = tempfile::tempdir().unwrap();
    let (here, layout) = (folder.path(), folder.path().join("layout"));
    let program = executable(62, &[LOAD, LOAD]);
    fs::write(here.join("static"), &program).unwrap();
    let written = cknet(here, &["--output", "probe.tar", "--executable", "static"]);
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));

    fs::create_dir(&layout).unwrap();
    said(here, &["tar", "--extract", "--file", "probe.tar", "--directory", "layout"]);
    assert_eq!(json(&layout.join("oci-layout"))["imageLayoutVersion"], "1.0.0");
    let index = json(&layout.join("index.json"));
    assert_eq!(
        (&index["schemaVersion"], &index["mediaType"]),
        (&2.into(), &"application/vnd.oci.image.index.v1+json".into())
    );
    let [named] = &index["manifests"].as_array().unwrap()[..] else { panic!("{index}") };
    assert_eq!(named["annotations"]["io.containerd.image.name"], "ghcr.io/cknet/cknet-probe:v1");
    assert_eq!(named["annotations"]["org.opencontainers.image.ref.name"], "v1");
    assert_eq!(named["platform"], serde_json::json!({"architecture": "amd64", "os": "linux"}));
    let told = String::from_utf8(written.stdout).unwrap();
    assert_eq!(told, format!("ghcr.io/cknet/cknet-probe:v1@{}  linux/amd64\n", named["digest"].as_str().unwrap()));

    let manifest = json(&follow(&layout, named, "application/vnd.oci.image.manifest.v1+json"));
    assert_eq!(manifest["schemaVersion"], 2);
    let config = json(&follow(&layout, &manifest["config"], "application/vnd.oci.image.config.v1+json"));
    let [layer] = &manifest["layers"].as_array().unwrap()[..] else { panic!("{manifest}") };
    let layer_path = follow(&layout, layer, "application/vnd.oci.image.layer.v1.tar");
    assert_eq!(config["rootfs"], serde_json::json!({"type": "layers", "diff_ids": [layer["digest"]]}));
    assert_eq!((&config["os"], &config["architecture"]), (&"linux".into(), &"amd64".into()));
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/bin/cknet", "probe", "serve"]));

    let root = here.join("root");
    fs::create_dir(&root).unwrap();
    said(&root, &["tar", "--extract", "--same-permissions", "--file", layer_path.to_str().unwrap()]);
    assert_eq!(fs::read(root.join("bin/cknet")).unwrap(), program);
    assert_eq!(fs::metadata(root.join("bin/cknet")).unwrap().permissions().mode() & 0o7777, 0o755);
    let listed =
        said(&layout, &["tar", "--list", "--verbose", "--numeric-owner", "--file", layer_path.to_str().unwrap()]);
    assert!(listed.lines().all(|line| line.contains(" 0/0 ") && line.contains("1970-01-01")), "{listed}");
    let blobs = fs::read_dir(layout.join("blobs/sha256")).unwrap().count();
    assert_eq!(blobs, 3, "nothing that nobody names");
}

#[test]
fn the_same_executable_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    for (name, output) in [("one", "one.tar"), ("two", "two.tar")] {
        fs::write(folder.path().join(name), executable(183, &[LOAD])).unwrap();
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
        said(folder.path(), &["touch", "--date", if name == "one" { "2001-01-01" } else { "2020-02-02" }, name]);
        let written = cknet(folder.path(), &["--output", output, "--executable", name, "--name", "example.org/p:7"]);
        assert!(written.status.success());
        assert!(String::from_utf8_lossy(&written.stdout).ends_with("linux/arm64\n"));
    }
    assert_eq!(fs::read(folder.path().join("one.tar")).unwrap(), fs::read(folder.path().join("two.tar")).unwrap());
}

#[test]
fn what_could_not_run_in_the_image_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("dynamic"), executable(62, &[LOAD, INTERPRETER])).unwrap();
    fs::write(folder.path().join("script"), "#!/bin/sh\n").unwrap();
    fs::write(folder.path().join("cut"), &executable(62, &[LOAD])[..70]).unwrap();
    fs::write(folder.path().join("other"), executable(8, &[LOAD])).unwrap();
    for (name, words) in [
        ("dynamic", "it needs the libraries of a machine"),
        ("script", "no executable for Linux"),
        ("cut", "no executable for Linux"),
        ("other", "no executable for Linux"),
        ("nowhere", "cannot read `nowhere`"),
    ] {
        let refused = cknet(folder.path(), &["--output", "probe.tar", "--executable", name]);
        let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{name}: {stderr}");
        assert!(stderr.contains(words), "{name}: {stderr}");
    }
    assert!(!folder.path().join("probe.tar").exists());
    fs::write(folder.path().join("static"), executable(62, &[LOAD])).unwrap();
    let refused = cknet(folder.path(), &["--output", "no/such/folder/probe.tar", "--executable", "static"]);
    assert_eq!(refused.status.code(), Some(3));
}

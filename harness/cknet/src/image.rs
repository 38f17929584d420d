//! Owns the probe image: an OCI image layout in one tar file, with the executable as its only file.
//!
//! The same executable gives the same bytes, whenever and wherever: no times, no names of users, one order. No container
//! engine is asked, and nothing is compressed, since compressors differ from version to version.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Where the executable is in the image.
const PROGRAM: &str = "bin/cknet";

/// What is in an image layout beside blobs.
const LAYOUT: &str = "oci-layout";
const INDEX: &str = "index.json";

/// A file cannot be the program of an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    #[error("it is no executable for Linux on amd64 or arm64")]
    NotForLinux,
    #[error("it needs the libraries of a machine, and an image has none; build a static one: .ci/recipe static")]
    Dynamic,
    #[error("cannot put it into an archive: {0}")]
    Archive(String),
}

/// An image, ready to be written.
#[derive(Debug)]
pub struct Image {
    /// The layout as a tar file.
    pub archive: Vec<u8>,
    /// Of the manifest: what `name@digest` means.
    pub digest: String,
    /// `amd64` or `arm64`.
    pub architecture: &'static str,
}

/// Something that is named by its digest.
struct Blob {
    media_type: &'static str,
    digest: String,
    content: Vec<u8>,
}

impl Blob {
    fn new(media_type: &'static str, content: Vec<u8>) -> Self {
        let hash = Sha256::digest(&content);
        let digest = format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        Self { media_type, digest, content }
    }

    fn json(media_type: &'static str, content: &Value) -> Self {
        Self::new(media_type, content.to_string().into_bytes())
    }

    fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.content.len()})
    }

    fn path(&self) -> String {
        format!("blobs/{}", self.digest.replace(':', "/"))
    }
}

/// The image `name` of a static executable.
///
/// # Errors
/// When the file is none.
pub fn image(name: &str, executable: &[u8]) -> Result<Image, ImageError> {
    let architecture = architecture(executable)?;
    let mut layer = tar::Builder::new(Vec::new());
    add_folder(&mut layer, "bin/")?;
    add(&mut layer, PROGRAM, 0o755, executable)?;
    let layer = Blob::new("application/vnd.oci.image.layer.v1.tar", finished(layer)?);
    let config = json!({
        "created": "1970-01-01T00:00:00Z",
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Env": ["PATH=/bin"],
            "Entrypoint": ["/bin/cknet", "probe", "serve"],
            "Cmd": ["--listen", "8080/tcp"],
        },
        // Of the layer before compression, which there is none of.
        "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
    });
    let config = Blob::json("application/vnd.oci.image.config.v1+json", &config);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config.descriptor(),
        "layers": [layer.descriptor()],
    });
    let manifest = Blob::json("application/vnd.oci.image.manifest.v1+json", &manifest);
    let mut named = manifest.descriptor();
    named["platform"] = json!({"architecture": architecture, "os": "linux"});
    let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    // The first for containerd, which takes the image in under this name; the second is the specification's own.
    named["annotations"] = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [named],
    });
    let mut archive = tar::Builder::new(Vec::new());
    add(&mut archive, LAYOUT, 0o644, json!({"imageLayoutVersion": "1.0.0"}).to_string().as_bytes())?;
    add(&mut archive, INDEX, 0o644, index.to_string().as_bytes())?;
    add_folder(&mut archive, "blobs/")?;
    add_folder(&mut archive, "blobs/sha256/")?;
    for blob in [&manifest, &config, &layer] {
        add(&mut archive, &blob.path(), 0o644, &blob.content)?;
    }
    Ok(Image { archive: finished(archive)?, digest: manifest.digest, architecture })
}

fn finished(builder: tar::Builder<Vec<u8>>) -> Result<Vec<u8>, ImageError> {
    builder.into_inner().map_err(|error| ImageError::Archive(error.to_string()))
}

fn add(to: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]) -> Result<(), ImageError> {
    append(to, tar::EntryType::Regular, path, mode, content)
}

fn add_folder(to: &mut tar::Builder<Vec<u8>>, path: &str) -> Result<(), ImageError> {
    append(to, tar::EntryType::Directory, path, 0o755, &[])
}

/// Everything belongs to root and is as old as time.
fn append(
    to: &mut tar::Builder<Vec<u8>>,
    kind: tar::EntryType,
    path: &str,
    mode: u32,
    content: &[u8],
) -> Result<(), ImageError> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    to.append_data(&mut header, path, content).map_err(|error| ImageError::Archive(error.to_string()))
}

/// The architecture of a static executable, in the words of images.
fn architecture(file: &[u8]) -> Result<&'static str, ImageError> {
    const LITTLE_ENDIAN_64_BIT: [u8; 6] = [0x7f, b'E', b'L', b'F', 2, 1];
    const INTERPRETER: u32 = 3;
    let header = file.get(..64).filter(|header| header.starts_with(&LITTLE_ENDIAN_64_BIT));
    let header = header.ok_or(ImageError::NotForLinux)?;
    let short = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
    let architecture = match short(18) {
        62 => "amd64",
        183 => "arm64",
        _ => return Err(ImageError::NotForLinux),
    };
    let mut first = [0; 8];
    first.copy_from_slice(&header[32..40]);
    let first = usize::try_from(u64::from_le_bytes(first)).map_err(|_| ImageError::NotForLinux)?;
    let (size, count) = (short(54), short(56));
    for number in 0..count {
        let entry = first.checked_add(number * size).and_then(|at| file.get(at..at.checked_add(size)?));
        // A file that was cut off is none either.
        let kind = entry.and_then(|entry| entry.get(..4)).ok_or(ImageError::NotForLinux)?;
        // What asks for an interpreter is linked with the libraries of a machine.
        if u32::from_le_bytes([kind[0], kind[1], kind[2], kind[3]]) == INTERPRETER {
            return Err(ImageError::Dynamic);
        }
    }
    Ok(architecture)
}

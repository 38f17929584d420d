//! The container engine, its images, and containers of them. Must not know what runs in a container.

use std::future::Future;
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Failed, Trial};
use testcontainers::bollard::Docker;
use testcontainers::core::ExecCommand;
use testcontainers::core::client::docker_client_instance;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt};
use tokio::runtime::Runtime;

/// Longest time for the engine to answer, and for one whole trial of the project's own images.
const ANSWERS: Duration = Duration::from_secs(5);
const TRIAL: Duration = Duration::from_secs(60);
/// A fresh container's program, and a route, are there within this time.
pub const SOON: Duration = Duration::from_secs(20);

/// One for all trials: the client of the engine keeps connections that belong to the runtime that made them.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

/// The network that every engine has. Named, since the engine calls it otherwise when it says how a container was made.
pub const NETWORK: &str = "bridge";

pub type Container = ContainerAsync<GenericImage>;

/// What a trial needs besides an engine.
#[derive(Clone, Copy)]
pub enum Need {
    /// An image that `.ci/recipe containers` builds.
    Own(&'static str),
    /// An image of a public registry, and the word with which `CKNET_REQUIRE` demands it.
    Public { image: fn() -> String, word: &'static str, deadline: Duration },
}

/// A trial that is ignored, with the reason, where the engine or the image is missing.
pub fn trial<T>(name: &str, need: Need, test: fn() -> T) -> Trial
where
    T: Future<Output = ()> + 'static,
{
    Trial::ignorable_test(name.to_string(), move || {
        RUNTIME.block_on(async {
            let (word, deadline) = match need {
                Need::Own(_) => ("containers", TRIAL),
                Need::Public { word, deadline, .. } => (word, deadline),
            };
            if let Err(why) = there(need).await {
                return match required(word) {
                    true => Err(Failed::from(format!("`CKNET_REQUIRE` names `{word}`: {why}"))),
                    false => Ok(Completion::ignored_with(why)),
                };
            }
            // Whatever ends it early drops what it holds, and its containers with that.
            match tokio::time::timeout(deadline, test()).await {
                Ok(()) => Ok(Completion::Completed),
                Err(_) => Err(format!("no end within {deadline:?}").into()),
            }
        })
    })
}

fn required(word: &str) -> bool {
    std::env::var("CKNET_REQUIRE").is_ok_and(|list| list.split(',').any(|need| need == word))
}

/// Whether the engine answers and has the image, perhaps after a pull; if not, why, and what would mend it.
async fn there(need: Need) -> Result<(), String> {
    let engine = engine().await?;
    match need {
        Need::Own(image) => match engine.inspect_image(image).await {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("there is no image `{image}`: `.ci/recipe containers` builds it and runs this test")),
        },
        Need::Public { image, .. } => public(&engine, &image()).await,
    }
}

async fn engine() -> Result<Docker, String> {
    let why = |error: String| {
        format!(
            "no container engine answers ({error}): `.ci/recipe containers` starts one for these tests, or name one in DOCKER_HOST"
        )
    };
    let engine = docker_client_instance().await.map_err(|error| why(error.to_string()))?;
    match tokio::time::timeout(ANSWERS, engine.ping()).await {
        Ok(Ok(_)) => Ok(engine),
        Ok(Err(error)) => Err(why(error.to_string())),
        Err(_) => Err(why(format!("nothing within {ANSWERS:?}"))),
    }
}

/// A public image that is not here may be had from its registry. That one is asked first, since a pull has no short
/// deadline; the pull itself is the first thing that starting a container does.
async fn public(engine: &Docker, image: &str) -> Result<(), String> {
    if engine.inspect_image(image).await.is_ok() {
        return Ok(());
    }
    let told = match tokio::time::timeout(ANSWERS, engine.inspect_registry_image(image, None)).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("nothing within {ANSWERS:?}"),
    };
    Err(format!(
        "the image `{image}` is not here and its registry is out of reach ({told}): `docker pull {image}`, or put an \
         archive of `docker save` into the folder that CKNET_IMAGES names and call `.ci/recipe containers`"
    ))
}

/// A container of one of the project's images that waits to be told what to run.
pub async fn idle(
    image: &str,
    adjust: fn(ContainerRequest<GenericImage>) -> ContainerRequest<GenericImage>,
) -> Container {
    let (name, tag) = image.split_once(':').expect("a tag");
    // Longer than any trial: `docker stop` and the removal end it.
    let request = GenericImage::new(name, tag).with_cmd(["sleep", "3600"]).with_network(NETWORK);
    adjust(request).start().await.unwrap_or_else(|error| panic!("start `{image}`: {error}"))
}

pub async fn address(container: &Container) -> IpAddr {
    container.get_bridge_ip_address().await.expect("an address of the container")
}

/// What a command line of `sh` in a container printed, and its exit code.
pub async fn shell(container: &Container, line: &str) -> (i64, String) {
    let command = ExecCommand::new(["sh", "-c", line]);
    let mut run = container.exec(command).await.unwrap_or_else(|error| panic!("`{line}`: {error}"));
    let mut text = String::from_utf8_lossy(&run.stdout_to_vec().await.expect("standard output")).into_owned();
    text += &String::from_utf8_lossy(&run.stderr_to_vec().await.expect("standard error"));
    // Both ends of the output are read, so it has ended or is about to.
    let mut code = None;
    until(&format!("`{line}` has ended"), SOON, async || {
        code = run.exit_code().await.ok().flatten();
        code.map(|_| ()).ok_or_else(|| "it runs".to_string())
    })
    .await;
    (code.expect("it has ended"), text)
}

/// What a command line printed that has to succeed.
pub async fn done(container: &Container, line: &str) -> String {
    let (code, text) = shell(container, line).await;
    assert_eq!(code, 0, "`{line}` printed: {text}");
    text
}

/// Puts a text into a file of a container.
pub async fn put(container: &Container, file: &str, text: &str) {
    done(container, &format!("cat >{file} <<'END OF FILE'\n{text}\nEND OF FILE")).await;
}

/// Looks again and again until `look` says that it is so; fails with what it said last.
pub async fn until(what: &str, within: Duration, mut look: impl AsyncFnMut() -> Result<(), String>) {
    let begun = Instant::now();
    loop {
        let Err(last) = look().await else { return };
        assert!(begun.elapsed() < within, "{what}: not within {within:?}, last seen: {last}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

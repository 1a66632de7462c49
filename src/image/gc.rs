//! Removing images that mlctl built and nobody has used for long.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::ImageSummary;
use bollard::query_parameters::{ListContainersOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptions};

use super::{PROJECT_LABEL, known};
use crate::error::CommandError;
use crate::platform::docker::{self, Daemon};

/// An image that is to go.
#[derive(Debug)]
struct Unused {
    /// The names to remove: the image goes with the last.
    names: Vec<String>,
    /// The content tags to forget.
    tags: Vec<String>,
}

/// Removes images that this store knows and that were not used for so long, and those that lost their name to a newer
/// build; how many. Whatever has a name of somebody else's, or a container, stays.
pub(crate) fn collect(daemon: &Daemon, store: &Path, unused_for: Duration, dry_run: bool) -> Result<u64, CommandError> {
    let known = known::all(store);
    let looked = daemon.block_on(look(daemon.client(), &known, unused_for));
    let unused = looked.map_err(|error| docker::failure("cannot list images", error))?;
    if dry_run {
        return Ok(unused.len() as u64);
    }
    Ok(unused.into_iter().filter(|image| daemon.block_on(remove(daemon.client(), store, image))).count() as u64)
}

async fn look(
    docker: &Docker,
    known: &HashMap<String, (String, Duration)>,
    unused_for: Duration,
) -> Result<Vec<Unused>, Error> {
    let filters = HashMap::from([("label", vec![PROJECT_LABEL])]);
    let images = docker.list_images(Some(ListImagesOptionsBuilder::new().filters(&filters).build())).await?;
    let containers = docker.list_containers(Some(ListContainersOptionsBuilder::new().all(true).build())).await?;
    let used: HashSet<String> = containers.into_iter().filter_map(|container| container.image_id).collect();
    let mine = images.into_iter().filter(|image| !used.contains(&image.id));
    Ok(mine.filter_map(|image| unused(image, known, unused_for)).collect())
}

fn unused(image: ImageSummary, known: &HashMap<String, (String, Duration)>, unused_for: Duration) -> Option<Unused> {
    let names: Vec<String> = image.repo_tags.into_iter().filter(|name| name != "<none>:<none>").collect();
    if names.is_empty() {
        let built = UNIX_EPOCH + Duration::from_secs(image.created.try_into().unwrap_or_default());
        let age = SystemTime::now().duration_since(built).unwrap_or_default();
        return (age > unused_for).then(|| Unused { names: vec![image.id], tags: Vec::new() });
    }
    let tags: Option<Vec<String>> = names
        .iter()
        .map(|name| {
            let (_, tag) = name.rsplit_once(':')?;
            let (id, unused) = known.get(tag)?;
            (*id == image.id && *unused > unused_for).then(|| tag.to_owned())
        })
        .collect();
    Some(Unused { names, tags: tags? })
}

/// Removes what is remembered of contexts that nobody looked at for so long.
pub(crate) fn forget(store: &Path, unused_for: Duration) -> std::io::Result<()> {
    known::forget_contexts(store, unused_for)
}

/// Whether it is gone. What somebody has come to use meanwhile, the daemon keeps.
async fn remove(docker: &Docker, store: &Path, image: &Unused) -> bool {
    for name in &image.names {
        match docker.remove_image(name, None::<RemoveImageOptions>, None).await {
            Ok(_) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => {}
            Err(_) => return false,
        }
    }
    image.tags.iter().for_each(|tag| known::forget(store, tag));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn image(names: &[&str], age: Duration) -> ImageSummary {
        let created = (SystemTime::now() - age).duration_since(UNIX_EPOCH).unwrap().as_secs();
        ImageSummary {
            id: "sha256:1".to_owned(),
            repo_tags: names.iter().map(|name| (*name).to_owned()).collect(),
            created: i64::try_from(created).unwrap(),
            ..ImageSummary::default()
        }
    }

    #[test]
    fn only_what_is_known_and_old_under_all_its_names_goes() {
        let known = HashMap::from([
            ("old".to_owned(), ("sha256:1".to_owned(), DAY * 40)),
            ("young".to_owned(), ("sha256:1".to_owned(), DAY)),
            ("other".to_owned(), ("sha256:2".to_owned(), DAY * 40)),
        ]);
        let goes = |names: &[&str], age| unused(image(names, age), &known, DAY * 30).map(|unused| unused.names.len());
        assert_eq!(goes(&["mlctl/a-b:old"], DAY), Some(1));
        assert_eq!(goes(&["mlctl/a-b:old", "registry.example:5000/mlctl/a-b:old"], DAY), Some(2));
        assert_eq!(goes(&["mlctl/a-b:young"], DAY * 40), None);
        assert_eq!(goes(&["mlctl/a-b:old", "mlctl/a-b:young"], DAY * 40), None);
        assert_eq!(goes(&["mlctl/a-b:old", "mine:latest"], DAY * 40), None, "the user gave it a name");
        assert_eq!(goes(&["mlctl/a-b:other"], DAY * 40), None, "another image has the name that the store knows");
        assert_eq!(goes(&["mlctl/a-b:unknown"], DAY * 40), None, "another store's");
        assert_eq!(goes(&[], DAY * 40), Some(1), "a newer build has its name");
        assert_eq!(goes(&["<none>:<none>"], DAY), None);
    }
}

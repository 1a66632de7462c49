//! The content tag of an image: the same recipe has the same tag, and so an unchanged environment costs one look-up.

use mlctl_core::digest::Digest;

use super::generated::Manner;
use super::recipe::{Recipe, RecipeKind, requirements};
use crate::lock::LockedImage;

/// The content tag of a recipe: 32 hexadecimal digits. `context` is the digest of the build context of a user's
/// Dockerfile. Everything that decides what comes out is in it, and nothing else: no secret's value, no proxy.
pub(super) fn content_tag(recipe: &Recipe, context: Option<Digest>, platform: &str) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("mlctl 1 image recipe");
    let mut field = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    field(platform);
    // As BuildKit would build it: whoever builds, it is the same image.
    field(&recipe.text(Manner { mounts: true, ..Manner::default() }));
    match &recipe.kind {
        RecipeKind::Described { base, locked, .. } => {
            field(&base.locked.digest);
            field(&locked.as_ref().map(requirements).unwrap_or_default());
        }
        RecipeKind::File(file) => {
            field(&context.map(|digest| digest.to_string()).unwrap_or_default());
            field(file.build.target.as_deref().unwrap_or_default());
            field(&file.build.args.len().to_string());
            for (name, value) in &file.build.args {
                field(name);
                field(value);
            }
            field(&file.build.secrets.join(","));
            field(if file.build.ssh { "ssh" } else { "" });
        }
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

/// `mlctl/PROJECT-ENVIRONMENT`: a name that Docker takes, whatever the project is called.
pub(super) fn repository(project: &str, environment: &str) -> String {
    clean(&format!("{project}-{environment}"))
}

/// `mlctl/image-NAME:DIGEST`: what an image that mlctl did not make is called where mlctl brings it. It can be told from the
/// lock alone.
pub(crate) fn of_image(name: &str, locked: &LockedImage) -> String {
    let digest = locked.digest.rsplit(':').next().unwrap_or_default();
    format!("{}:{}", clean(&format!("image-{name}")), &digest[..digest.len().min(32)])
}

fn clean(text: &str) -> String {
    let mut name = "mlctl/".to_owned();
    for character in text.chars() {
        match character {
            'a'..='z' | '0'..='9' => name.push(character),
            'A'..='Z' => name.push(character.to_ascii_lowercase()),
            // Docker allows single separators between letters and digits only.
            _ if name.ends_with(['-', '/']) => {}
            _ => name.push('-'),
        }
    }
    name.truncate(name.trim_end_matches('-').len());
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_such_that_docker_takes_them() {
        for (project, environment, expected) in [
            ("churn", "default", "mlctl/churn-default"),
            ("my_project", "cuda-12", "mlctl/my-project-cuda-12"),
            ("_odd__", "-x-", "mlctl/odd-x"),
            ("Größe", "e", "mlctl/gr-e-e"),
        ] {
            assert_eq!(repository(project, environment), expected);
        }
        let locked = LockedImage { digest: format!("sha256:{}", "ab".repeat(32)), local: true };
        let name = of_image("localhost:5000/acme/Train:1.4", &locked);
        assert_eq!(name, format!("mlctl/image-localhost-5000-acme-train-1-4:{}", "ab".repeat(16)));
    }
}

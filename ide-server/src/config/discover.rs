//! Where a config is looked for when none is named.

use std::path::{Path, PathBuf};

const NAMES: &[&str] = &[
    ".mirrord/mirrord.json",
    ".mirrord/mirrord.toml",
    ".mirrord/mirrord.yaml",
    ".mirrord/mirrord.yml",
    "mirrord.json",
    "mirrord.toml",
    "mirrord.yaml",
    "mirrord.yml",
];

/// The first config in `folder` or, inside a repository, in its parents up to the repository's root.
pub(super) fn find(folder: &Path) -> Option<PathBuf> {
    let repository = folder.ancestors().find(|parent| parent.join(".git").exists()).unwrap_or(folder);
    folder
        .ancestors()
        .take_while(|parent| parent.starts_with(repository))
        .flat_map(|parent| NAMES.iter().map(|name| parent.join(name)))
        .find(|path| path.is_file())
}

/// The branch that is checked out in the repository around `folder`; `None` outside of one and on a detached head.
pub(super) fn git_branch(folder: &Path) -> Option<String> {
    let dot_git = folder.ancestors().map(|parent| parent.join(".git")).find(|path| path.exists())?;
    let git = if dot_git.is_dir() {
        dot_git
    } else {
        // A worktree or submodule: the file names the folder.
        let text = std::fs::read_to_string(&dot_git).ok()?;
        dot_git.parent()?.join(text.strip_prefix("gitdir:")?.trim())
    };
    let head = std::fs::read_to_string(git.join("HEAD")).ok()?;
    head.trim().strip_prefix("ref: refs/heads/").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_config_is_found_up_to_the_repository_and_not_above() {
        let root = std::env::temp_dir().join(format!("mirrord-ide-discover-{}", std::process::id()));
        let deep = root.join("repository/service/src");
        fs::create_dir_all(&deep).unwrap();
        fs::write(root.join("mirrord.json"), "{}").unwrap();
        assert_eq!(find(&deep), None, "no repository: the folder alone");
        fs::create_dir_all(root.join("repository/.git")).unwrap();
        assert_eq!(find(&deep), None, "above the repository");
        fs::write(root.join("repository/mirrord.json"), "{}").unwrap();
        assert_eq!(find(&deep), Some(root.join("repository/mirrord.json")));
        fs::create_dir_all(root.join("repository/service/.mirrord")).unwrap();
        fs::write(root.join("repository/service/.mirrord/mirrord.yaml"), "").unwrap();
        assert_eq!(find(&deep), Some(root.join("repository/service/.mirrord/mirrord.yaml")));
        fs::write(root.join("repository/.git/HEAD"), "ref: refs/heads/feature/x\n").unwrap();
        assert_eq!(git_branch(&deep).as_deref(), Some("feature/x"));
        fs::write(root.join("repository/.git/HEAD"), "0123456789abcdef\n").unwrap();
        assert_eq!(git_branch(&deep), None, "a detached head");
        fs::remove_dir_all(&root).unwrap();
    }
}

//! Recognises a container's processes by the text of `/proc/PID/cgroup`.
//!
//! Each runtime and cgroup driver writes the container's id in another dress; the id itself is always a whole word.

/// The length of a runtime's full id.
const FULL: usize = 64;

/// Whether a process with this `/proc/PID/cgroup` runs in the container `id`.
///
/// `id` is the runtime's full id, or at least its first twelve digits; `containerd://` and the like may stand before
/// it. The runtimes' own helpers (`crio-conmon-ID`, `libpod-conmon-ID`) carry the id too, and are not of the container.
pub(crate) fn holds(cgroup: &str, id: &str) -> bool {
    let id = id.rsplit_once("://").map_or(id, |(_, id)| id);
    if id.is_empty() {
        return false;
    }
    cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)).any(|path| {
        path.split('/').any(|segment| {
            let segment = segment.strip_suffix(".scope").unwrap_or(segment);
            let (dress, word) = match segment.rfind(['-', ':']) {
                Some(at) => (&segment[..at], &segment[at + 1..]),
                None => ("", segment),
            };
            is_id(word, id) && !dress.ends_with("conmon")
        })
    })
}

fn is_id(word: &str, id: &str) -> bool {
    let shortened = id.len() >= 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    word == id || (shortened && word.len() == FULL && word.starts_with(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f4b1c9a0d2e7788a1b2c3d4e5f60718293a4b5c6d7e8f901122334455667788";

    fn lines(path: &str) -> [String; 2] {
        [format!("12:pids:{path}\n11:memory:{path}\n1:name=systemd:{path}\n"), format!("0::{path}\n")]
    }

    #[test]
    fn the_container_is_known_in_every_runtime_and_driver() {
        for path in [
            format!("/kubepods/besteffort/pod7d1f8e0a-4c1b-4a52-9e5c-0c6f4a1d9b3e/{ID}"),
            format!("/kubepods/pod7d1f8e0a-4c1b-4a52-9e5c-0c6f4a1d9b3e/{ID}"),
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod7d1f8e0a_4c1b.slice/cri-containerd-{ID}.scope"
            ),
            format!(
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod7d1f.slice/crio-{ID}.scope"
            ),
            format!("/kubepods.slice/kubepods-pod7d1f.slice/crio-{ID}.scope/container"),
            format!("/system.slice/containerd.service/kubepods-besteffort-pod7d1f.slice:cri-containerd:{ID}"),
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/kubepods/besteffort/pod7d1f/docker-{ID}.scope"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            // Seen from inside another cgroup namespace.
            format!("/../../kubepods-besteffort-pod7d1f.slice/cri-containerd-{ID}.scope"),
            format!("/../{ID}"),
            // systemd inside the container.
            format!("/docker/{ID}/system.slice/nginx.service"),
        ] {
            for text in lines(&path) {
                assert!(holds(&text, ID), "{text}");
                assert!(holds(&text, &format!("containerd://{ID}")), "{text}");
                assert!(holds(&text, &ID[..12]), "{text}");
            }
        }
    }

    #[test]
    fn a_runtime_helper_and_another_container_are_not_it() {
        let other = ID.replace('3', "4");
        for path in [
            format!(
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod7d1f.slice/crio-conmon-{ID}.scope"
            ),
            format!("/machine.slice/libpod-conmon-{ID}.scope"),
            format!("/kubepods/besteffort/pod7d1f/{other}"),
            format!("/docker/{ID}0"),
            "/".to_owned(),
            "/system.slice/containerd.service".to_owned(),
        ] {
            for text in lines(&path) {
                assert!(!holds(&text, ID), "{text}");
            }
        }
        assert!(!holds("0::/docker/abc\n", ""));
        // Shorter than any runtime's short id: could be anyone's.
        assert!(!holds(&format!("0::/docker/{ID}\n"), &ID[..8]));
    }

    #[test]
    fn one_line_of_a_v1_file_is_enough() {
        let text = format!("11:freezer:/\n4:memory:/docker/{ID}\n0::/\n");
        assert!(holds(&text, ID));
    }
}

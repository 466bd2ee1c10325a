//! What the kernel knows of the pod's tree, and what a walk has just found out about it.
//!
//! The kernel may keep every entry and attribute it was given. A walk, made for each trapped call, is compared with what
//! the kernel was told; only the differences are taken back ([`Stale`]). So an unchanged path is opened without a
//! single question to this server, and a `..data` link that was swapped is seen at the next open.
//!
//! A node stands for one version of a file. Who has it open keeps its content; a new version gets a new node. A file
//! that may be written to is one node whatever is in it, apart from those of its versions. Folders are known by device, inode and path, so that one folder mounted at two places is two nodes, as the kernel insists.

use super::abi::ROOT;
use crate::files::Rights;
use crate::files::live::{Access, LiveFile};
use crate::files::lookup::Found;
use crate::files::source::{Source, Version};
use bytes::Bytes;
use protocol::agent::{Listed, Stat, Step};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a walk answers the kernel's lookups: the opens that follow it at once.
const SEED_VALID: Duration = Duration::from_secs(2);
const MOST_SEEDS: usize = 4096;

/// What the kernel must be told before it may answer by itself again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stale {
    /// A name leads elsewhere now.
    Entry { parent: u64, name: Bytes },
    /// A node's attributes changed.
    Attributes { node: u64 },
}

/// One version of one file, or a folder.
pub(super) struct Node {
    version: Version,
    pub(super) stat: Stat,
    pub(super) path: Bytes,
    pub(super) link: Bytes,
    /// What it may be used for, by the call that showed it.
    pub(super) rights: Rights,
    /// How many references the kernel has.
    lookups: u64,
    /// Open descriptors.
    opens: u64,
    /// Opens that are under way.
    pins: u64,
    /// Brought along by the last walk; held while opened.
    pub(super) source: Option<Arc<Source>>,
    pub(super) listed: Option<Listed>,
    /// Opened in the pod for opens that are under way.
    waiting: Vec<Arc<LiveFile>>,
    /// Open in the pod, by the kernel's handles.
    live: HashMap<u64, Arc<LiveFile>>,
    /// Names below it that the kernel was told.
    told: HashMap<Bytes, u64>,
    /// Where it was told last.
    told_at: Option<(u64, Bytes)>,
}

type Key = (Version, Bytes);

/// All nodes.
pub(super) struct Tree {
    nodes: HashMap<u64, Node>,
    by_key: HashMap<Key, u64>,
    seeds: HashMap<(u64, Bytes), (u64, Instant)>,
    last: u64,
    /// Until a walk shows the root its stat is made up.
    pub(super) root_seen: bool,
}

fn key(version: Version, stat: &Stat, path: &Bytes) -> Key {
    let folder = stat.mode & libc::S_IFMT == libc::S_IFDIR;
    (version, if folder { path.clone() } else { Bytes::new() })
}

impl Tree {
    pub(super) fn new() -> Self {
        let stat = Stat { mode: libc::S_IFDIR | 0o755, nlink: 1, ino: 1, ..Stat::default() };
        let root = Node::new(Version::of(&stat), stat, Bytes::from_static(b"/"));
        Self {
            nodes: HashMap::from([(ROOT, root)]),
            by_key: HashMap::new(),
            seeds: HashMap::new(),
            last: ROOT,
            root_seen: false,
        }
    }

    pub(super) fn get(&self, node: u64) -> Option<&Node> {
        self.nodes.get(&node)
    }

    pub(super) fn get_mut(&mut self, node: u64) -> Option<&mut Node> {
        self.nodes.get_mut(&node)
    }

    /// Takes in a walk before it is opened: the chain of nodes from the root, pinned until [`Tree::unpin`].
    pub(super) fn seed(&mut self, found: &Found, rights: Rights, stale: &mut Vec<Stale>) -> Vec<u64> {
        let stats: HashMap<&[u8], (&Stat, &Bytes)> = found
            .steps
            .iter()
            .filter_map(|step| Some((&step.path[..], (step.stat.as_ref()?, &step.link))))
            .collect();
        let mut chain = vec![ROOT];
        if let Some((stat, _)) = stats.get(&b"/"[..]) {
            self.see_root(stat, stale);
        }
        let mut parent = ROOT;
        let mut end = 0;
        for name in found.path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            end += 1 + name.len();
            let path = found.path.slice(..end);
            // A walk shows all it passed; what it did not the kernel asks for by itself.
            let Some(&(stat, link)) = stats.get(&path[..]) else { break };
            // What is passed on the way is only passed.
            let rights = if end == found.path.len() { rights } else { Rights::Read };
            let node = self.see(stat, &path, link, rights, stale);
            let name = found.path.slice(end - name.len()..end);
            let told = self.nodes.get(&parent).and_then(|parent| parent.told.get(&name));
            if told.is_some_and(|&told| told != node) {
                stale.push(Stale::Entry { parent, name: name.clone() });
            }
            self.plant((parent, name), node);
            chain.push(node);
            parent = node;
        }
        for node in &chain {
            if let Some(node) = self.nodes.get_mut(node) {
                node.pins += 1;
            }
        }
        chain
    }

    /// Takes in a fresh stat of something that the kernel may know.
    pub(super) fn refresh(&mut self, found: &Found, stale: &mut Vec<Stale>) {
        self.look_again(&found.path, &found.stat, stale);
    }

    /// What is known of the thing with this path has this stat now. Its node, or the last of its two.
    fn look_again(&mut self, path: &Bytes, stat: &Stat, stale: &mut Vec<Stale>) -> Option<u64> {
        if &path[..] == b"/" {
            self.see_root(stat, stale);
            return Some(ROOT);
        }
        let mut known = None;
        for rights in [Rights::Read, Rights::ReadWrite] {
            if let Some(&id) = self.by_key.get(&key(Version::with(stat, rights), stat, path)) {
                self.update(id, stat, stale);
                known = Some(id);
            }
        }
        known
    }

    /// Takes in what a change of our own left behind: folders first, then the names in them.
    pub(super) fn changed(&mut self, steps: &[Step], stale: &mut Vec<Stale>) {
        let mut folders: HashMap<&[u8], u64> = HashMap::new();
        for Step { path, stat, .. } in steps {
            let known = stat.as_ref().and_then(|stat| self.look_again(path, stat, stale));
            let slash = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            let (above, name) = (&path[..slash.max(1)], path.slice((slash + 1).min(path.len())..));
            if let Some(&parent) = folders.get(above).filter(|_| !name.is_empty()) {
                let told = self.nodes.get(&parent).and_then(|parent| parent.told.get(&name)).copied();
                if told.is_some() && told != known {
                    stale.push(Stale::Entry { parent, name });
                }
            }
            if let Some(id) = known {
                if let Some(node) = self.nodes.get_mut(&id) {
                    // A file that was renamed.
                    if node.version.is_live() {
                        node.path = path.clone();
                    }
                }
                folders.insert(path, id);
            }
        }
    }

    /// The kernel was told this stat.
    pub(super) fn tell_stat(&mut self, id: u64, stat: Stat) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.stat = stat;
        }
    }

    pub(super) fn see_root(&mut self, stat: &Stat, stale: &mut Vec<Stale>) {
        self.root_seen = true;
        self.update(ROOT, stat, stale);
    }

    fn update(&mut self, id: u64, stat: &Stat, stale: &mut Vec<Stale>) {
        if let Some(node) = self.nodes.get_mut(&id)
            && node.stat != *stat
        {
            node.stat = stat.clone();
            if node.lookups > 0 || id == ROOT {
                stale.push(Stale::Attributes { node: id });
            }
        }
    }

    /// The node of this version, made if need be.
    fn see(
        &mut self,
        stat: &Stat,
        path: &Bytes,
        link: &Bytes,
        rights: Rights,
        stale: &mut Vec<Stale>,
    ) -> u64 {
        let version = Version::with(stat, rights);
        let key = key(version, stat, path);
        if let Some(&id) = self.by_key.get(&key) {
            self.update(id, stat, stale);
            if let Some(node) = self.nodes.get_mut(&id) {
                node.path = path.clone();
                // What could be changed by one path can be by all that lead to it.
                if rights == Rights::ReadWrite {
                    node.rights = rights;
                }
            }
            return id;
        }
        // Never used again: the kernel may speak of an old one for long.
        self.last += 1;
        let mut node = Node::new(version, stat.clone(), path.clone());
        node.link = link.clone();
        node.rights = rights;
        self.nodes.insert(self.last, node);
        self.by_key.insert(key, self.last);
        self.last
    }

    fn plant(&mut self, place: (u64, Bytes), node: u64) {
        let now = Instant::now();
        if self.seeds.len() >= MOST_SEEDS {
            self.seeds.retain(|_, (_, at)| now.duration_since(*at) < SEED_VALID);
        }
        self.seeds.insert(place, (node, now));
    }

    /// The kernel looks a name up: what a walk has just shown, as a node it now has one more reference to.
    pub(super) fn look_up(&mut self, parent: u64, name: &[u8]) -> Option<u64> {
        let name = Bytes::copy_from_slice(name);
        let (node, at) = *self.seeds.get(&(parent, name.clone()))?;
        if at.elapsed() >= SEED_VALID || !self.nodes.contains_key(&node) {
            self.seeds.remove(&(parent, name));
            return None;
        }
        self.tell(parent, name, node);
        Some(node)
    }

    /// The kernel looks a name up, and it had to be walked to.
    pub(super) fn look_up_found(
        &mut self,
        parent: u64,
        name: &[u8],
        found: &Found,
        stale: &mut Vec<Stale>,
    ) -> u64 {
        let node = self.see(&found.stat, &found.path, &found.link, Rights::Read, stale);
        self.tell(parent, Bytes::copy_from_slice(name), node);
        node
    }

    fn tell(&mut self, parent: u64, name: Bytes, id: u64) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.lookups += 1;
            node.told_at = Some((parent, name.clone()));
        }
        if let Some(parent) = self.nodes.get_mut(&parent) {
            parent.told.insert(name, id);
        }
    }

    /// The kernel gives references back.
    pub(super) fn forget(&mut self, id: u64, count: u64) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.lookups = node.lookups.saturating_sub(count);
        }
        self.settle(id);
    }

    /// A descriptor of the node was made; gone with [`Tree::closed`].
    pub(super) fn opened(&mut self, id: u64) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.opens += 1;
        }
    }

    pub(super) fn closed(&mut self, id: u64, handle: u64) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.opens = node.opens.saturating_sub(1);
            node.live.remove(&handle);
        }
        self.settle(id);
    }

    /// The open that the chain was made for is done.
    pub(super) fn unpin(&mut self, chain: &[u64]) {
        for &id in chain.iter().rev() {
            if let Some(node) = self.nodes.get_mut(&id) {
                node.pins = node.pins.saturating_sub(1);
            }
            self.settle(id);
        }
    }

    /// Lets go of content that nobody has open, and of nodes that nobody knows.
    fn settle(&mut self, id: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if node.opens > 0 || node.pins > 0 {
            return;
        }
        node.source = None;
        node.listed = None;
        node.waiting.clear();
        if node.lookups > 0 || id == ROOT {
            return;
        }
        let Some(node) = self.nodes.remove(&id) else { return };
        let key = key(node.version, &node.stat, &node.path);
        if self.by_key.get(&key) == Some(&id) {
            self.by_key.remove(&key);
        }
        if let Some((parent, name)) = node.told_at
            && let Some(parent) = self.nodes.get_mut(&parent)
            && parent.told.get(&name) == Some(&id)
        {
            parent.told.remove(&name);
        }
    }
}

impl Node {
    fn new(version: Version, stat: Stat, path: Bytes) -> Self {
        Self {
            version,
            stat,
            path,
            link: Bytes::new(),
            rights: Rights::Read,
            lookups: 0,
            opens: 0,
            pins: 0,
            source: None,
            listed: None,
            waiting: Vec::new(),
            live: HashMap::new(),
            told: HashMap::new(),
            told_at: None,
        }
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }

    /// Whether it stands for a file whatever is in it.
    pub(super) fn is_live(&self) -> bool {
        self.version.is_live()
    }

    /// Has an open that is about to come take this file.
    pub(super) fn expect_open(&mut self, file: Arc<LiveFile>) {
        self.waiting.push(file);
    }

    /// The open did not come.
    pub(super) fn give_up(&mut self, file: &Arc<LiveFile>) {
        self.waiting.retain(|waiting| !Arc::ptr_eq(waiting, file));
    }

    /// A file for an open that came: any that was opened the same way.
    pub(super) fn take_waiting(&mut self, access: Access) -> Option<Arc<LiveFile>> {
        let at = self.waiting.iter().position(|waiting| waiting.access == access)?;
        Some(self.waiting.remove(at))
    }

    pub(super) fn hold(&mut self, handle: u64, file: Arc<LiveFile>) {
        self.live.insert(handle, file);
    }

    /// An open file of it, one open for writing if there is one.
    pub(super) fn open_file(&self) -> Option<Arc<LiveFile>> {
        let files = || self.live.values().chain(&self.waiting).filter(|file| file.is_open());
        files().find(|file| file.access.write).or_else(|| files().next()).cloned()
    }
}

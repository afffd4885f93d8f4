//! Where container engines listen, and what `doctor` says of them.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use tokio::time::timeout;

use super::live;
use crate::enrich::engine::{
    Engine,
    docker::About,
    isolation::isolation,
    sockets::{self, Places, Socket},
};

/// How long `doctor` waits for an engine.
const PATIENCE: Duration = Duration::from_secs(3);

/// Containers of one engine that `doctor` asks about.
const CONTAINERS: usize = 256;

/// Where engines are asked what containers are called. Those that come later are found too.
#[derive(Args, Clone, Debug)]
pub(super) struct Engines {
    /// Where the Docker engine listens
    #[arg(long, value_name = "SOCKET", default_value = sockets::DOCKER)]
    docker_socket: PathBuf,
    /// Where Podman's service listens
    #[arg(long, value_name = "SOCKET", default_value = sockets::PODMAN)]
    podman_socket: PathBuf,
    /// Another socket at which Docker's API is spoken; may be given several times
    #[arg(long, value_name = "SOCKET")]
    engine: Vec<PathBuf>,
    /// Where containerd or CRI-O listens (CRI); may be given several times
    #[arg(long, value_name = "SOCKET", default_values = sockets::CRI)]
    cri_socket: Vec<PathBuf>,
    /// Ask users' own (rootless) engines below /run/user too; a user may run any program there
    #[arg(long)]
    user_engines: bool,
}

/// An engine that is there, and what it answers.
pub(super) struct Examined {
    pub(super) socket: Socket,
    pub(super) about: Result<About, String>,
    /// Containers that have a kernel of their own, each with its runtime.
    pub(super) isolated: Vec<(String, String)>,
}

impl Engines {
    pub(super) fn places(&self) -> Places {
        let own = [&self.docker_socket, &self.podman_socket];
        Places {
            docker: own.into_iter().chain(&self.engine).cloned().collect(),
            cri: self.cri_socket.clone(),
            users: self.user_engines.then(|| sockets::USERS.into()),
        }
    }

    /// Asks every engine that is there who it is.
    ///
    /// # Errors
    /// The asking itself cannot be done.
    pub(super) fn examine(&self) -> anyhow::Result<Vec<Examined>> {
        let places = self.places();
        live::runtime()?.block_on(async {
            let mut all = Vec::new();
            for socket in places.present() {
                all.push(examine(socket).await);
            }
            Ok(all)
        })
    }
}

async fn examine(socket: Socket) -> Examined {
    let nothing = |why: &str| Examined {
        socket: socket.clone(),
        about: Err(why.to_owned()),
        isolated: Vec::new(),
    };
    let Some(engine) = Engine::at(&socket) else {
        return nothing("it has just gone");
    };
    let about = match timeout(PATIENCE, engine.about()).await {
        Ok(Ok(about)) => about,
        Ok(Err(error)) => return nothing(&error),
        Err(_) => return nothing("it does not answer"),
    };
    let isolated = timeout(PATIENCE, isolated(&engine)).await;
    Examined {
        socket,
        about: Ok(about),
        isolated: isolated.unwrap_or_default(),
    }
}

async fn isolated(engine: &Engine) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for id in engine
        .list()
        .await
        .unwrap_or_default()
        .iter()
        .take(CONTAINERS)
    {
        let Some(info) = engine.inspect(id).await else {
            continue;
        };
        if let Some(runtime) = info.oci_runtime.filter(|name| isolation(name).is_some()) {
            found.push((info.name, runtime));
        }
    }
    found
}

//! What a node is made of, and the order it is put together in.

use std::{collections::BTreeMap, os::unix::fs::DirBuilderExt as _, path::PathBuf, sync::Arc};

use axum::Router;
use tokio::sync::watch;

use super::{
    Node,
    lights::NodeLights,
    listeners::{self, Listener},
    owners::EntityOwner,
};
use crate::{
    access::{self, Access},
    api::{self, Api, Attempts, Phase},
    base::Clock,
    catalog::{HourlyCatalog, Items, OfferBuilder},
    chain::{self, Contracts, Follower, Registrar, Sender},
    config::{self, Config},
    deals::{self, DealEffects, DealRecord, Deals},
    market::DigestSigner,
    network::Peer,
    queue::{Handler, Queue, Recurring},
    requests::{self, Answer, Answering, Dropped, Intake, Prune, Rules, StoredTopics, Topics},
    shutdown::Shutdown,
    store::{self, Record},
    telemetry::{Metrics, Policy, Tasks},
};

/// Why a node did not start. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the configuration has mistakes:\n{0}")]
    Config(crate::config::Problems),
    #[error("cannot use the data directory {path}: {source}; set node.data_dir to one that can be written", path = path.display())]
    DataDir {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    Store(#[from] store::OpenError),
    #[error("cannot read what the store holds: {0}")]
    Stored(#[from] crate::store::StoreError),
    #[error(transparent)]
    Access(#[from] access::KeyError),
    #[error(transparent)]
    Chain(#[from] chain::ChainError),
    #[error(transparent)]
    Signer(#[from] chain::KeyError),
    #[error(transparent)]
    Network(#[from] crate::network::NetworkError),
    #[error(transparent)]
    Bind(#[from] api::BindError),
}

/// Collects what differs from the plain node.
pub struct NodeBuilder {
    config: Config,
    offers: Option<Arc<dyn OfferBuilder>>,
    signer: Option<Arc<dyn DigestSigner>>,
    routes: Router,
    handlers: BTreeMap<String, Arc<dyn Handler>>,
    recurring: Vec<Recurring>,
    listeners: Vec<Arc<dyn Listener>>,
}

impl NodeBuilder {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            offers: None,
            signer: None,
            routes: Router::new(),
            handlers: BTreeMap::new(),
            recurring: Vec::new(),
            listeners: Vec::new(),
        }
    }

    /// Answers requests with these offers instead of the config's catalogue.
    pub fn offers(mut self, builder: impl OfferBuilder) -> Self {
        self.offers = Some(Arc::new(builder));
        self
    }

    /// Signs offers and transactions, instead of the key that the config's `[signer]` names: one that never
    /// leaves an HSM or another machine.
    pub fn signer(mut self, signer: impl DigestSigner + 'static) -> Self {
        self.signer = Some(Arc::new(signer));
        self
    }

    /// Further public routes.
    pub fn routes(mut self, routes: Router) -> Self {
        self.routes = self.routes.merge(routes);
        self
    }

    /// A handler for jobs of a kind of your own.
    pub fn handler(mut self, kind: impl Into<String>, handler: impl Handler) -> Self {
        self.handlers.insert(kind.into(), Arc::new(handler));
        self
    }

    /// A job that comes again and again; some handler must take its kind.
    pub fn recurring(mut self, job: Recurring) -> Self {
        self.recurring.push(job);
        self
    }

    /// Hears of the node's start and stop, its coordinators and the messages that come.
    pub fn listener(mut self, listener: impl Listener) -> Self {
        self.listeners.push(Arc::new(listener));
        self
    }

    /// Puts the rooms together and starts their loops. What only needs waiting for (a coordinator, an RPC
    /// endpoint) does not fail the start: it is named by `/ready` and retried.
    pub async fn start(self, shutdown: Shutdown) -> Result<Node, StartError> {
        let Self {
            mut config,
            offers,
            signer,
            routes,
            handlers,
            recurring,
            listeners,
        } = self;
        let mut problems = Default::default();
        config.chain.resolve();
        config.check(&mut problems);
        if !problems.is_empty() {
            return Err(StartError::Config(problems));
        }
        chain::install_crypto();
        let data_dir = &config.node.data_dir;
        // Nobody else may look in; one that is there keeps the mode that its maker gave it.
        let mut private = std::fs::DirBuilder::new();
        private.recursive(true).mode(0o700);
        private
            .create(data_dir)
            .map_err(|source| StartError::DataDir {
                path: data_dir.clone(),
                source,
            })?;
        let clock = Clock::system();
        let metrics = Metrics::new();
        let base = Tasks::new(clock.clone(), metrics.clone(), shutdown.clone());
        // Groups are stopped in the order of their names here, see `running`.
        let (sources, work, faces) = (base.group(), base.group(), base.group());
        let (phase, phase_seen) = watch::channel(Phase::Starting);

        let signer = match signer {
            Some(signer) => chain::in_time(signer),
            None => chain::load_signer(&config.signer)?,
        };
        let contracts = Contracts::new(&config.chain, &work)?;
        // Reading a large store back takes a while; the other tasks of this runtime go on meanwhile.
        let store = tokio::task::block_in_place(|| {
            store::open(&config.store, data_dir, clock.clone(), &base)
        })?;
        let items = Items::open(store.clone(), clock.clone(), &config.catalog.items).await?;
        let answering = Answering::open(store.clone(), clock.clone()).await?;
        let topics = StoredTopics::read(&store, &config.network.topics).await?;
        let owner = EntityOwner::new(contracts.clone(), config.supplier.id, clock.clone());
        let access = Access::open(
            &config.access,
            contracts.chain_id(),
            data_dir,
            store.clone(),
            clock.clone(),
            Some(Arc::new(owner)),
        )?;
        let control = api::bind_control(&config.node.control_socket())?;
        let public = api::bind_public(config.api.listen).await?;
        let metrics_server = match config.telemetry.metrics {
            Some(listen) => Some(api::bind_public(listen).await?),
            None => None,
        };

        let network = config::Network {
            topics: topics.on(),
            ..config.network.clone()
        };
        let (peer, inbound) = Peer::start(&network, data_dir, &work)?;
        // From the first connection on.
        let listeners: Vec<_> = listeners.into_iter().map(|l| (l, peer.events())).collect();
        let topics = Topics::new(topics, peer.clone(), store.clone(), clock.clone());
        let sender = Sender::start(
            contracts.clone(),
            store.clone(),
            signer.clone(),
            &config.chain,
            &work,
        );
        let registrar = chain::load_owner(&config.owner)?.map(|owner| {
            // One key, one sender: two would take each other's nonces.
            let sender = if owner.address() == sender.address() {
                sender.clone()
            } else {
                let (contracts, store) = (contracts.clone(), store.clone());
                Sender::start(contracts, store, owner, &config.chain, &work)
            };
            Registrar::new(contracts.clone(), sender)
        });
        let mut keys = vec![sender.address()];
        keys.extend(registrar.as_ref().map(Registrar::owner));
        sender.inherit(keys);
        let deals = Deals {
            store: store.clone(),
            clock: clock.clone(),
            contracts: contracts.clone(),
            sender: sender.clone(),
            signer: signer.clone(),
            supplier: config.supplier.id,
            by: None,
        };
        let builder = offers
            .unwrap_or_else(|| Arc::new(HourlyCatalog::new(config.catalog.clone(), items.clone())));
        let answer = Answer {
            store: store.clone(),
            clock: clock.clone(),
            builder: answering.guard(builder),
            signer,
            domain: contracts.domain(),
            supplier: config.supplier.id,
            peer: peer.clone(),
            offer_expire: config.requests.offer_expire,
            max_offers: config.requests.max_offers,
        };
        let mut queue = Queue::builder(store.clone(), clock.clone(), &work, &config.queue)
            .handler(requests::JOB_KIND, Arc::new(answer))
            .handler(deals::JOB_KIND, Arc::new(deals.clone()));
        for (kind, handler) in handlers {
            queue = queue.handler(kind, handler);
        }
        for job in recurring {
            queue = queue.recurring(job);
        }
        let queue = queue.start();
        requests::publish_again(&store, &clock).await?;

        let effects = DealEffects {
            store: store.clone(),
            supplier: config.supplier.id,
        };
        let follower = Follower::start(
            contracts.clone(),
            store.clone(),
            Arc::new(effects),
            &config.chain,
            &sources,
        );
        let dropped = Dropped::new(store.clone(), clock.clone());
        let intake = Intake {
            store: store.clone(),
            clock: clock.clone(),
            rules: Rules {
                max_lifetime: config.requests.max_lifetime,
            },
            nonce_window: config.requests.nonce_window,
            republish: config.requests.republish,
            dropped: dropped.clone(),
            metrics: metrics.clone(),
        };
        intake.start(inbound, &sources);
        let prune = Prune {
            store: store.clone(),
            clock: clock.clone(),
            keep: config.requests.keep,
            kept_for: DealRecord::TABLE,
            dropped,
        };
        prune.start(&sources);

        chain::watch_entity(
            contracts,
            config.supplier.id,
            sender.address(),
            follower.clone(),
            &config.chain,
            &sources,
        );

        let api = Api {
            store: store.clone(),
            registrar,
            access,
            attempts: Attempts::new(config.access.attempts_per_minute, clock.clone()),
            answering,
            deals,
            items,
            queue: queue.clone(),
            topics,
            lights: Arc::new(NodeLights {
                api: public.address(),
                metrics: metrics_server.as_ref().map(api::BoundServer::address),
                register: base.register.clone(),
                shutdown: shutdown.clone(),
                peer: peer.clone(),
                follower,
                queue: queue.clone(),
            }),
            phase: phase_seen,
            started: clock.now(),
            supplier: config.supplier.id,
            stopping: faces.stopping().clone(),
            config: config.api.clone(),
        };
        let api_address = public.address();
        let metrics_address = metrics_server.as_ref().map(api::BoundServer::address);
        serve(
            &faces,
            "api",
            public,
            api::public(api.clone(), routes.clone()),
        );
        serve(&faces, "control", control, api::control(api, routes));
        if let Some(server) = metrics_server {
            serve(&faces, "metrics", server, api::metrics_routes(metrics));
        }
        phase.send_replace(Phase::Running);
        for (number, (listener, events)) in (1..).zip(listeners) {
            listeners::listen(number, listener, events, api_address.clone(), &sources);
        }
        tracing::info!(api = api_address, data_dir = %data_dir.display(), "ready");
        Ok(Node {
            api_address,
            metrics_address,
            grace: config.node.grace.0,
            queue_grace: config.queue.grace.0,
            control_socket: config.node.control_socket(),
            shutdown,
            phase,
            sources,
            work,
            faces,
            base,
            queue,
            store,
        })
    }
}

fn serve(tasks: &Tasks, name: &'static str, server: api::BoundServer, router: Router) {
    let server = Arc::new(server);
    tasks.spawn(name, Policy::default(), move |beat| {
        let (server, router) = (server.clone(), router.clone());
        async move { server.serve(router, beat).await }
    });
}

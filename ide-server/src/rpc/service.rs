//! The method table: each request of a client becomes a [`Call`] to the main loop and waits for its answer there.

use super::connection::Outbox;
use super::http;
use crate::handlers;
use crate::main_loop::{Ask, Call, ClientId, Event, EventSender};
use jsonrpsee_server::{RegisterMethodError, RpcModule};
use protocol::ide::{self, ClientOptions, DaemonOptions, ErrorData, ErrorKind, IDE_PROTOCOL, Method};
use tower_lsp_server::jsonrpc::{self, ErrorCode};
use tower_lsp_server::ls_types::{InitializeParams, InitializeResult, ServerCapabilities, ServerInfo};
use tower_lsp_server::{ClientSocket, LanguageServer, LspService};

/// One client's side of the method table.
#[derive(Debug)]
pub struct Backend {
    client: ClientId,
    events: EventSender,
    outbox: Outbox,
}

macro_rules! method_table {
    ($($method:ty),* $(,)?) => {
        /// The names of our methods, as `initialize` tells them.
        pub fn method_names() -> Vec<String> {
            vec![$(<$method as Method>::NAME.to_owned()),*]
        }

        fn build(backend: Backend) -> (LspService<Backend>, ClientSocket) {
            LspService::build(move |_| backend)
                $(.custom_method(<$method as Method>::NAME, Backend::call::<$method>))*
                .finish()
        }

        /// Registers every method with the other door.
        pub(super) fn register(module: &mut RpcModule<http::Visitor>) -> Result<(), RegisterMethodError> {
            $(module.register_async_method(<$method as Method>::NAME, http::answer::<$method>)?;)*
            Ok(())
        }
    };
}

method_table![
    ide::TargetList,
    ide::NamespaceList,
    ide::SessionPlan,
    ide::SessionRedeem,
    ide::SessionForget,
    ide::SessionStart,
    ide::SessionList,
    ide::SessionAttach,
    ide::SessionSubscribe,
    ide::SessionExplain,
    ide::SessionStop,
    ide::ConfigVerify,
    ide::DaemonStatus,
    ide::DaemonStop,
];

/// The service of one client; the socket carries requests of the server to the client.
pub fn for_client(
    client: ClientId,
    events: EventSender,
    outbox: Outbox,
) -> (LspService<Backend>, ClientSocket) {
    build(Backend { client, events, outbox })
}

impl Backend {
    async fn call<M>(&self, params: serde_json::Value) -> jsonrpc::Result<M::Answer>
    where
        M: Method,
        Call: From<Ask<M>>,
    {
        ask::<M>(self.client, &self.events, &self.outbox, params).await.map_err(to_jsonrpc)
    }
}

/// Hands a request to the main loop. When the request is cancelled or its connection ends, this future is dropped and
/// with it the answer's receiver: that is how work in progress learns of it.
pub(super) async fn ask<M>(
    client: ClientId,
    events: &EventSender,
    outbox: &Outbox,
    params: serde_json::Value,
) -> Result<M::Answer, ErrorData>
where
    M: Method,
    Call: From<Ask<M>>,
{
    let params = if params.is_null() { serde_json::json!({}) } else { params };
    let params = serde_json::from_value(params).map_err(|error| {
        ErrorData::new(
            ErrorKind::InvalidRequest,
            format!("the parameters of {} do not fit: {error}", M::NAME),
            "see docs/protocol-ide.md for what the method takes",
        )
        .fact("method", M::NAME)
    })?;
    let (reply, answer) = tokio::sync::oneshot::channel();
    let ask = Ask { client, outbox: outbox.clone(), params, reply };
    events.send(Event::Call(Box::new(Call::from(ask)))).map_err(|_| handlers::shutting_down())?;
    answer.await.map_err(|_| handlers::shutting_down())?
}

/// Takes what a client says of itself, and says who we are.
pub(super) fn introduce(
    client: ClientId,
    events: &EventSender,
    options: Option<serde_json::Value>,
) -> Result<DaemonOptions, ErrorData> {
    let options: ClientOptions = match options {
        Some(options) => serde_json::from_value(options).map_err(|error| {
            ErrorData::new(
                ErrorKind::InvalidRequest,
                format!("initializationOptions do not fit: {error}"),
                "see docs/protocol-ide.md for what they hold",
            )
        })?,
        None => ClientOptions::default(),
    };
    if let Some(range) = options.protocol
        && !(range.min..=range.max).contains(&IDE_PROTOCOL)
    {
        return Err(ErrorData::new(
            ErrorKind::ProtocolMismatch,
            format!("the client speaks protocols {} to {}, this daemon {IDE_PROTOCOL}", range.min, range.max),
            "install extension and mirrord-ide of the same release, then run `mirrord-ide stop --all`",
        )
        .fact("serverVersion", protocol::VERSION));
    }
    events.send(Event::Initialized { client, options }).map_err(|_| handlers::shutting_down())?;
    Ok(DaemonOptions {
        protocol: IDE_PROTOCOL,
        version: protocol::VERSION.to_owned(),
        target_kinds: crate::target::KINDS.iter().map(|kind| (*kind).to_owned()).collect(),
        methods: method_names(),
    })
}

impl LanguageServer for Backend {
    async fn initialize(&self, params: InitializeParams) -> jsonrpc::Result<InitializeResult> {
        let ide = introduce(self.client, &self.events, params.initialization_options).map_err(to_jsonrpc)?;
        Ok(InitializeResult {
            capabilities: ServerCapabilities {
                experimental: Some(serde_json::json!({ "ide": ide })),
                ..ServerCapabilities::default()
            },
            server_info: Some(ServerInfo {
                name: "mirrord-ide".to_owned(),
                version: Some(protocol::VERSION.to_owned()),
            }),
            ..InitializeResult::default()
        })
    }

    async fn shutdown(&self) -> jsonrpc::Result<()> {
        Ok(())
    }
}

fn to_jsonrpc(data: ErrorData) -> jsonrpc::Error {
    jsonrpc::Error {
        code: ErrorCode::from(data.kind.code()),
        message: data.message.clone().into(),
        data: serde_json::to_value(data).ok(),
    }
}

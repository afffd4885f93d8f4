//! What one TLS connection costs: both ends in this process, without certificates from elsewhere.

use std::{
    io::{Error, Result},
    net::{TcpListener, TcpStream},
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, RootCertStore, ServerConfig,
    ServerConnection, SideData,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
};

const NAME: &str = "load.example";

/// Who connects, and who answers.
pub(super) struct Ends {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Ends {
    /// With a key of their own.
    pub(super) fn new() -> Result<Self> {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).map_err(Error::other)?;
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).map_err(Error::other)?;
        let server = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .map_err(Error::other)?;
        let mut client = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Each connection is to be a first one.
        client.resumption = rustls::client::Resumption::disabled();
        Ok(Self {
            client: Arc::new(client),
            server: Arc::new(server),
        })
    }

    /// connect(), accept(), a whole handshake and both close().
    pub(super) fn connect(&self, listener: &TcpListener) -> Result<()> {
        let mut near = TcpStream::connect(listener.local_addr()?)?;
        let (mut far, _) = listener.accept()?;
        let name = ServerName::try_from(NAME).map_err(Error::other)?;
        let mut client =
            ClientConnection::new(Arc::clone(&self.client), name).map_err(Error::other)?;
        let mut server = ServerConnection::new(Arc::clone(&self.server)).map_err(Error::other)?;
        // What one has written the other can read at once.
        while client.is_handshaking() || server.is_handshaking() {
            speak(&mut client, &mut near)?;
            hear(&mut server, &mut far)?;
            speak(&mut server, &mut far)?;
            hear(&mut client, &mut near)?;
        }
        Ok(())
    }
}

fn speak<D: SideData>(end: &mut ConnectionCommon<D>, stream: &mut TcpStream) -> Result<()> {
    while end.wants_write() {
        end.write_tls(stream)?;
    }
    Ok(())
}

fn hear<D: SideData>(end: &mut ConnectionCommon<D>, stream: &mut TcpStream) -> Result<()> {
    if end.is_handshaking() {
        end.read_tls(stream)?;
        end.process_new_packets().map_err(Error::other)?;
    }
    Ok(())
}

//! The cluster's certificate authority, and what it issues to the API server and to kubelets.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The authority's own certificate.
    #[error("the certificate authority `{name}` could not be made")]
    Authority { name: String, source: rcgen::Error },
    /// A certificate it issues.
    #[error("no certificate could be issued to `{subject}`")]
    Issue { subject: String, source: rcgen::Error },
}

/// A certificate authority with its key.
pub struct Authority {
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key.
#[derive(Debug, Clone)]
pub struct Issued {
    pub cert_pem: String,
    pub key_pem: String,
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params
}

impl Authority {
    /// A new authority of this common name.
    pub fn create(name: &str) -> Result<Self, PkiError> {
        let wrong = |source| PkiError::Authority { name: name.to_owned(), source };
        let key = KeyPair::generate().map_err(wrong)?;
        let params = authority_params(name);
        let ca_pem = params.self_signed(&key).map_err(wrong)?.pem();
        Ok(Self { ca_pem, issuer: Issuer::new(params, key) })
    }

    /// An authority that was made by [`Authority::create`] with this name, from its certificate and key.
    pub fn from_pem(name: &str, ca_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let wrong = |source| PkiError::Authority { name: name.to_owned(), source };
        let key = KeyPair::from_pem(key_pem).map_err(wrong)?;
        Ok(Self { ca_pem: ca_pem.to_owned(), issuer: Issuer::new(authority_params(name), key) })
    }

    /// Its certificate, which clients trust.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Its key, for [`Authority::from_pem`].
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A certificate for a server and client of this name, valid for the addresses and host names in `sans`.
    pub fn issue(&self, common_name: &str, sans: &[String]) -> Result<Issued, PkiError> {
        let wrong = |source| PkiError::Issue { subject: common_name.to_owned(), source };
        let key = KeyPair::generate().map_err(wrong)?;
        let mut params = CertificateParams::new(sans.to_vec()).map_err(wrong)?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).map_err(wrong)?;
        Ok(Issued { cert_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}

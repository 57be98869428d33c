"""Signs bundles and verifies signatures, so that an app can refuse bundles from others.

`manifest.sig` is an ECDSA signature with P-256 and SHA-256 (FIPS 186-5, as DER) of the bytes of
`manifest.json`, which has the SHA-256 of every other file. Keys are PEM files as OpenSSL writes
them. Java, Kotlin, Swift and browsers can verify it with their standard libraries
(`SHA256withECDSA`).

Needs `pip install 'kdedge[sign]'`.
"""

import shlex
from pathlib import Path
from typing import Any

from kdedge.bundle.manifest import MANIFEST, SIGNATURE, Manifest, opened, verify
from kdedge.errors import KdedgeError
from kdedge.files import new_file

MAKE_KEYS = (
    "`openssl ecparam -name prime256v1 -genkey -noout -out key.pem` makes one, and "
    "`openssl ec -in key.pem -pubout -out public.pem` its public key."
)


def sign_bundle(bundle: Path, key: Path) -> Path:
    """Verify a bundle and write `manifest.sig` into its folder; an older one is replaced.

    Args:
        bundle: the bundle's folder.
        key: a private key for P-256, PEM without a password.

    Returns:
        Path of the signature.

    Raises:
        KdedgeError: the bundle is damaged, or the key is of another kind.
    """
    private, ec, sha256 = _key(key, private=True)
    if bundle.is_file():
        raise KdedgeError(f"{bundle}: a file. Sign the bundle's folder, and zip it afterwards.")
    verify(bundle)
    with new_file(bundle / SIGNATURE) as partial:
        partial.write_bytes(private.sign((bundle / MANIFEST).read_bytes(), ec.ECDSA(sha256)))
    return bundle / SIGNATURE


def verify_signature(bundle: Path, public_key: Path) -> Manifest:
    """Check a bundle's signature, and each of its files.

    Args:
        bundle: a folder, or a zip archive of it.
        public_key: a public key for P-256, PEM.

    Returns:
        The bundle's manifest.

    Raises:
        KdedgeError: the bundle is damaged, not signed, or signed with another key; or the key is of
            another kind.
    """
    from_key, ec, sha256 = _key(public_key, private=False)
    from cryptography.exceptions import InvalidSignature

    with opened(bundle) as folder:
        manifest = verify(folder)
        try:
            signature = (folder / SIGNATURE).read_bytes()
        except OSError:
            raise KdedgeError(
                f"{bundle} is not signed: {SIGNATURE} is missing. "
                "`kdedge sign BUNDLE_DIR --key KEY.pem` signs it."
            ) from None
        try:
            from_key.verify(signature, (folder / MANIFEST).read_bytes(), ec.ECDSA(sha256))
        except InvalidSignature:
            raise KdedgeError(
                f"{bundle}: the owner of {public_key} has not signed this bundle. Don't use it, "
                "or name the public key of the one who did."
            ) from None
    return manifest


def _key(path: Path, private: bool) -> tuple[Any, Any, Any]:
    """The key, cryptography's module for elliptic curves, and the hash."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise KdedgeError("cryptography is not installed: pip install 'kdedge[sign]'") from None
    kind = "private" if private else "public"
    key: Any = None
    try:
        content = path.read_bytes()
        if not private and b"PRIVATE KEY" in content:
            raise KdedgeError(
                f"{path}: a private key. `openssl ec -in {shlex.quote(str(path))} -pubout -out "
                "public.pem` writes its public half: name that one."
            )
        if private:
            key = serialization.load_pem_private_key(content, None)
        else:
            key = serialization.load_pem_public_key(content)
        why = "another kind of key"
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        why = str(error)
    types = (ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey)
    if not isinstance(key, types) or key.curve.name != "secp256r1":
        raise KdedgeError(
            f"{path}: no {kind} key for P-256 as PEM without a password ({why}). {MAKE_KEYS}"
        )
    return key, ec, hashes.SHA256()

"""Names that hide what they stand for, and names that only look so."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.redaction.names import is_secret_name

SECRET = """
Authorization Proxy-Authorization X-Authorization X-Forwarded-Authorization X-Serverless-Authorization
cf-aig-authorization X-Goog-IAM-Authorization-Token Authentication X-Auth Helicone-Auth X-Auth-Key
X-Auth-Token auth_key
Cookie Set-Cookie Cookie2 X-Cookie cookies
X-API-Key api-key apikey apiKey APIKey APIkey APIKEY api_keys xi-api-key X-RapidAPI-Key X-N8N-API-KEY
X-Goog-Api-Key
x-litellm-api-key X-Parse-REST-API-Key Ocp-Apim-Subscription-Key subscription-key X-Functions-Key
X-Access-Key AccessKey
accesskey X-Master-Key X-Vault-Key X-Parse-Master-Key AWSAccessKeyId secret_key secretkey SECRET_KEY
privateKey key keys
key1 X-Key sha256key2 user[api_key] keys[] sesskey
X-Amz-Security-Token X-Vault-Token X-Plex-Token PRIVATE-TOKEN JOB-TOKEN access_token accessToken accesstoken
ACCESSTOKEN
access_tokens auth-tokens authTokens authtokens refreshToken id_token_hint token tokens Token X-Tokens
oauth2token
x-amzn-oidc-accesstoken wstoken X-CSRF-Token X-CSRF csrf_token xsrf token_hash reset_token
password-reset-token
ratelimit-bypass-token cached-access-tokens nextPageToken Sec-Token-Binding X-Subscription-Token
X-Hub-Signature-256 X-Signature Stripe-Signature X-Amz-Signature signature sig sigs X-Goog-Signature
X-Shopify-Hmac-Sha256
X-Amz-Credential credential credentials X-Credentials creds
client_secret clientSecret CF-Access-Client-Secret secrets mysecret x_secret_thing password Password
my-password
userpassword passwords passwd pwd passphrase X-Passphrase pass user_pass db-pass
jwt X-Goog-Iap-Jwt-Assertion client_assertion assertion SAMLResponse samlresponse SAMLRequest bearer otp
session X-Session X-My-Session-Key PHPSESSID jsessionid sessions X-Wsse DPoP X-JFrog-Art-Api
X-Ms-Client-Principal oauth_token OAuth X-OAuth basicauth
x-portkey-virtual-key x-bf-vk x-litellm-key X-Original-Authorization MCP-Authorization X-Amzn-Oidc-Data
X-Vercel-Protection-Bypass X-Passwd hmac GoogleAccessId model_key GITHUB_TOKEN DB_PASSWORD
"""

HARMLESS = """
Host Accept Accept-Encoding Content-Type Content-Length User-Agent Date Server Via Vary ETag Age Link
Location Referer Origin
Connection Keep-Alive Upgrade Transfer-Encoding Cache-Control Alt-Svc Retry-After Range Forwarded
X-Forwarded-For
WWW-Authenticate Proxy-Authenticate Access-Control-Allow-Credentials Access-Control-Allow-Headers
Sec-WebSocket-Key Sec-WebSocket-Accept Sec-WebSocket-Version Sec-WebSocket-Protocol Idempotency-Key
X-Idempotency-Key
idempotencyKey Surrogate-Key Cache-Key prompt_cache_key public_key publicKey sort_key partition-key
primary_key
X-Token-Count token_count tokenCount X-Amzn-Bedrock-Input-Token-Count X-Amzn-Bedrock-Output-Token-Count
token-limit
token_usage key-count x-ratelimit-remaining-tokens x-ratelimit-limit-tokens x-ratelimit-reset-tokens
anthropic-ratelimit-tokens-limit anthropic-ratelimit-input-tokens-reset
anthropic-ratelimit-output-tokens-remaining
max_tokens maxTokens maxtokens max-token max_completion_tokens input_tokens prompt_tokens totalTokens
total_tokens
cache_creation_input_tokens reasoning_tokens budget_tokens thinking-tokens tokens-per-minute tokens_used
completion_tokens_details time_per_output_token time-to-first-token num_tokens
session-id session_id sessionId X-Session-Id X-Claude-Code-Session-Id litellm_session_id Helicone-Session-Id
Helicone-Session-Name Helicone-Session-Path X-Claude-Code-Agent-Id X-Client-Request-Id request-id
traceparent
keyword keywords keyboard keyed monkey turkey hockey donkey whiskey tokenizer tokenize tokenization author
authors
X-Author authority authored authored-by authenticated secretary secretariat cookiecutter assigned signal
design
sigma significant credit accredited passage passenger compass bypass pass-through passive obsession
possession X-OAuth-Scopes X-Accepted-OAuth-Scopes model q page limit cursor after before alt stream id name
code
x-session-affinity x-opencode-session x-litellm-session-id mcp-session-id x-tokenizer x-token-usage
x-total-tokens
llm_provider-x-ratelimit-remaining-tokens anthropic-priority-input-tokens-limit x-request-token-limit
token_type token-endpoint password_policy thoughtSignature eos_token
openai-organization openai-project anthropic-version anthropic-beta x-stainless-lang x-request-id
"""


class NameTests(SynchronousTestCase):
    def test_secrets(self) -> None:
        """Every spelling of key, auth, credential, token, secret, signature, cookie and password hides."""
        self.assertEqual([name for name in SECRET.split() if not is_secret_name(name)], [])

    def test_look_alikes(self) -> None:
        """Counts, identifiers that group, and words that only begin or end so stay readable."""
        self.assertEqual([name for name in HARMLESS.split() if is_secret_name(name)], [])

    @given(
        st.text(max_size=20),
        st.sampled_from("key auth authorization credential secret signature password cookie".split()),
        st.sampled_from("-_.[ 7"),
        st.sampled_from((str, str.upper, str.capitalize)),
    )
    def test_any_beginning(self, name: str, word: str, between: str, spelled: object) -> None:
        """What stands before such a word does not make it readable, but for the few keys that are public."""
        assert callable(spelled)
        self.assertTrue(is_secret_name(f"{name}{between}X{between}{spelled(word)}"))

    def test_long_names(self) -> None:
        """A long name is judged by its end."""
        self.assertTrue(is_secret_name("a-" * 10_000 + "key"))
        self.assertFalse(is_secret_name("key-" + "a-" * 10_000))

"""
List kinds of secrets and private paths, each as somebody would have left it in a file.

Every one is made when a test runs, from letters that mean nothing, so that no secret (and nothing that a push
protection takes for one) stands in this repository.
"""

import base64
import json
import random
from collections.abc import Callable


_RANDOM = random.Random(20261)
_LOWER, _UPPER, _DIGITS = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
_HEX = _DIGITS + "abcdef"


def _of(alphabet: str, length: int) -> str:
    """Letters of an alphabet with at least a digit and a letter among them."""
    text = "".join(_RANDOM.choice(alphabet) for _ in range(length - 3))
    return text + "".join(_RANDOM.choice([one for one in kind if one in alphabet] or alphabet) for kind in _THREE)


_THREE = (_LOWER + _UPPER, _DIGITS, _LOWER + _UPPER)


def _word(length: int) -> str:
    return _of(_LOWER + _UPPER + _DIGITS, length)


def _dashed(length: int) -> str:
    return _word(length // 2) + _RANDOM.choice("-_") + _word(length - length // 2 - 1)


def _hex(length: int) -> str:
    return _of(_HEX, length)


def _base64(length: int) -> str:
    return _word(length // 2) + "+" + _word(length - length // 2 - 2) + "/"


def _uuid() -> str:
    return "-".join(_hex(n) for n in (8, 4, 4, 4, 12))


def _web_token() -> str:
    parts = [json.dumps({"alg": "HS256", "typ": "JWT"}), json.dumps({"sub": _word(12), "exp": 1900000000})]
    packed = [base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts]
    return ".".join([*packed, _dashed(43)])


# The first half of what a scanner knows them by is joined to the rest here only.
def _pem(kind: str) -> str:
    lines = "\n".join(_base64(64) for _ in range(3))
    return f"-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----"


SECRETS: dict[str, Callable[[], str]] = {
    "Hugging Face token": lambda: f"HF_TOKEN={'hf'}_{_word(34)}",
    "Hugging Face organization token": lambda: f'token: "api_{"org"}_{_word(34)}"',
    "Hugging Face token in a clone address": lambda: (
        f"git clone https://anna:{'hf'}_{_word(34)}@huggingface.co/anna/x"
    ),
    "OpenAI key": lambda: f"OPENAI_API_KEY={'sk'}-{_word(48)}",
    "OpenAI project key": lambda: f"{'sk'}-proj-{_dashed(120)}",
    "Anthropic key": lambda: f"{'sk'}-ant-api03-{_dashed(93)}AA",
    "OpenRouter key": lambda: f"{'sk'}-or-v1-{_hex(64)}",
    "Groq key": lambda: f"{'gsk'}_{_word(52)}",
    "xAI key": lambda: f"XAI_API_KEY={'xai'}-{_word(80)}",
    "NVIDIA key": lambda: f"{'nvapi'}-{_dashed(64)}",
    "Replicate token": lambda: f"{'r8'}_{_word(37)}",
    "W&B key in the environment": lambda: f"export WANDB_API_KEY={_hex(40)}",
    "W&B key in a netrc": lambda: f"machine api.wandb.ai\n  login user\n  password {_hex(40)}",
    "W&B key in a command": lambda: f"wandb login --relogin {_hex(40)}",
    "W&B key in a script": lambda: f'wandb.login(key="{_hex(40)}")',
    "Kaggle key": lambda: json.dumps({"username": "anna", "key": _hex(32)}),
    "Comet key": lambda: f"COMET_API_KEY={_word(25)}",
    "Databricks token": lambda: f"{'dapi'}{_hex(32)}",
    "AWS access key id": lambda: f"aws_access_key_id = {'AK'}IA{_of(_UPPER + '234567', 16)}",
    "AWS secret key": lambda: f"aws_secret_access_key = {_base64(40)}",
    "AWS secret key, YAML": lambda: f'SecretAccessKey: "{_base64(40)}"',
    "Google API key": lambda: f"key={'AI'}za{_dashed(35)}",
    "Google OAuth secret": lambda: f"{'GOC'}SPX-{_dashed(28)}",
    "Google access token": lambda: f"{'ya'}29.{_dashed(120)}",
    "Google service account": lambda: json.dumps({"type": "service_account", "private_key_id": _hex(40)}),
    "Azure storage key": lambda: f"AccountName=anna;AccountKey={_base64(86)}==;EndpointSuffix=core.windows.net",
    "Azure signed address": lambda: (
        f"https://anna.blob.core.windows.net/c?sv=2022-11-02&se=2027-01-01&sig={_word(43)}%3D"
    ),
    "Azure client secret": lambda: f"AZURE_CLIENT_SECRET={_word(3)}8Q~{_word(34)}",
    "signed AWS address": lambda: f"https://b.s3.amazonaws.com/x?X-Amz-Expires=900&X-Amz-Signature={_hex(64)}",
    "DigitalOcean token": lambda: f"{'dop'}_v1_{_hex(64)}",
    "Heroku key": lambda: f"HEROKU_API_KEY={_uuid()}",
    "Cloudflare token": lambda: f"CLOUDFLARE_API_TOKEN={_dashed(40)}",
    "GitHub token": lambda: f"{'gh'}p_{_word(36)}",
    "GitHub fine-grained token": lambda: f"{'github'}_pat_{_word(22)}_{_word(59)}",
    "GitHub token in an address": lambda: f"https://{_word(40)}@github.com/anna/x.git",
    "GitLab token": lambda: f"{'gl'}pat-{_word(20)}",
    "Atlassian token": lambda: f"{'ATA'}TT3xFfGF0{_dashed(180)}",
    "npm token": lambda: f"{'np'}m_{_word(36)}",
    "npm login": lambda: f"//registry.npmjs.org/:_authToken={_uuid()}",
    "PyPI token": lambda: f"password = {'py'}pi-AgEIcHlwaS5vcmc{_dashed(120)}",
    "Docker Hub token": lambda: f"{'dckr'}_pat_{_dashed(27)}",
    "Docker login": lambda: (
        f'{{"auths": {{"x.io": {{"auth": "{base64.b64encode(f"anna:{_word(16)}".encode()).decode()}"}}}}}}'
    ),
    "Vault token": lambda: f"VAULT_TOKEN={'hv'}s.{_dashed(90)}",
    "Grafana token": lambda: f"{'gl'}sa_{_word(32)}_{_hex(8)}",
    "Tailscale key": lambda: f"{'ts'}key-auth-{_word(16)}-{_word(32)}",
    "Slack bot token": lambda: f"{'xo'}xb-{_of(_DIGITS, 12)}-{_of(_DIGITS, 12)}-{_word(24)}",
    "Slack app token": lambda: f"{'xa'}pp-1-A{_of(_UPPER + _DIGITS, 10)}-{_of(_DIGITS, 13)}-{_hex(64)}",
    "Slack hook": lambda: f"https://hooks.slack.com/services/T{_of(_UPPER, 8)}/B{_of(_UPPER, 8)}/{_word(24)}",
    "Discord bot token": lambda: f"{'MT'}{_word(24)}.{_word(6)}.{_dashed(38)}",
    "Discord hook": lambda: f"https://discord.com/api/webhooks/{_RANDOM.randrange(10**17, 10**18)}/{_dashed(68)}",
    "Telegram bot token": lambda: f"{_RANDOM.randrange(10**9, 10**10)}:AA{_dashed(33)}",
    "SendGrid key": lambda: f"{'SG'}.{_dashed(22)}.{_dashed(43)}",
    "Mailgun key": lambda: f"{'key'}-{_hex(32)}",
    "Mailchimp key": lambda: f"{_hex(32)}-us12",
    "Twilio key": lambda: f"{'SK'}{_hex(32)}",
    "Stripe key": lambda: f"{'sk'}_live_{_word(24)}",
    "Square token": lambda: f"{'sq0'}atp-{_dashed(22)}",
    "Shopify token": lambda: f"{'shp'}at_{_hex(32)}",
    "Notion token": lambda: f"{'nt'}n_{_word(46)}",
    "JSON web token": lambda: f"jwt={_web_token()}",
    "authorization header": lambda: f"-H 'Authorization: Bearer {_word(32)}'",
    "basic authorization": lambda: f"Authorization: Basic {base64.b64encode(f'anna:{_word(9)}'.encode()).decode()}",
    "RSA private key": lambda: _pem("RSA PRIVATE " + "KEY"),
    "OpenSSH private key": lambda: _pem("OPENSSH PRIVATE " + "KEY"),
    "encrypted private key": lambda: _pem("ENCRYPTED PRIVATE " + "KEY"),
    "PGP private key": lambda: _pem("PGP PRIVATE " + "KEY BLOCK"),
    "PuTTY key": lambda: "PuTTY-User-Key-" + "File-3: ssh-ed25519",
    "age key": lambda: "AGE-SECRET-" + f"KEY-1{_of(_UPPER + _DIGITS, 58)}",
    "password in an address": lambda: f"postgres://anna:{_word(9)}@db.internal:5432/runs",
    "password without a user in an address": lambda: f"redis://:{_word(12)}@10.0.0.4:6379/0",
    "token as a parameter": lambda: f"https://api.lab.org/v1/images?access_token={_word(40)}",
    "netrc": lambda: f"machine data.lab.org login anna password {_word(10)}",
    "password in the environment": lambda: f"DB_PASSWORD={_word(10)}",
    "password in YAML": lambda: f"database:\n  user: anna\n  password: {_word(8)}",
    "password in JSON": lambda: json.dumps({"smtp_password": _word(11)}),
    "password in a connection string": lambda: f"Server=db;Uid=anna;Pwd={_word(10)};",
    "password of a user in a command": lambda: f"curl -u anna:{_word(9)} https://data.lab.org/x",
    "password of sshpass": lambda: f"sshpass -p {_word(8)} ssh anna@login",
    "token in a command": lambda: f"huggingface-cli login --token {_word(34)}",
    "password in SQL": lambda: f"CREATE USER anna IDENTIFIED BY '{_word(9)}'",
    "hashed password": lambda: f"anna:$apr1${_word(8)}${_word(22)}",
    "API key in code": lambda: f"api_key = '{_hex(32)}'",
    "client secret": lambda: f'"client_secret": "{_dashed(32)}"',
}

PATHS: dict[str, Callable[[], str]] = {
    "home": lambda: "output_dir: /home/anna/output",
    "home of macOS": lambda: "see /Users/anna/llava/train.json",
    "home with a space": lambda: '"/Users/john smith/llava/train.json"',
    "home by tilde": lambda: "path: ~/data",
    "home of another user": lambda: "path: ~anna/data",
    "home by variable": lambda: "$HOME/llava/data",
    "home of root": lambda: "cd /root/llava",
    "Windows": lambda: "C:\\Users\\anna\\data",
    "Windows in JSON": lambda: json.dumps("D:\\work\\anna\\data"),
    "Windows with slashes": lambda: "C:/Users/anna/data",
    "Windows share": lambda: "\\\\fileserver\\anna\\data",
    "Windows share in JSON": lambda: json.dumps("\\\\fileserver\\anna\\data"),
    "cluster": lambda: "/cluster/home/anna/run.sh",
    "parallel file system": lambda: "/gpfs/work2/0/anna/llava",
    "scratch": lambda: "/lus/scratch/anna/llava",
    "home after a colon": lambda: "data:/home/anna/x.json",
    "file address": lambda: "file:///home/anna/x.json",
    "temporary folder": lambda: "/tmp/tmpab12/x",
    "mounted drive": lambda: "/content/drive/MyDrive/llava",
    "mounted bucket": lambda: "/gcs/anna-bucket/llava",
    "volume": lambda: "/Volumes/Anna/llava",
    "Databricks files": lambda: "/dbfs/FileStore/anna/x",
    "bucket of AWS": lambda: "s3://anna-private/llava/train.json",
    "bucket of Google": lambda: "gs://anna-private/llava",
    "store of Azure": lambda: "abfss://data@anna.dfs.core.windows.net/llava",
    "Hadoop": lambda: "hdfs://namenode:8020/user/anna/llava",
    "another machine": lambda: "rsync anna@login.cluster.edu:/work/anna/llava .",
}


__all__ = ["PATHS", "SECRETS"]

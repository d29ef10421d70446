"""Put a trained checkpoint together as a publication, check it as a reader would, and send it only when told to.

python examples/publish_and_verify.py output/mine me/my-llava publication          # writes and checks a folder
python examples/publish_and_verify.py output/mine me/my-llava publication --send   # and sends it to the Hub
"""

import argparse
import sys

from transformers_llava.hub.publication.stage import stage_publication
from transformers_llava.hub.verification.verify import verify


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("checkpoint", help="what `llava train` has saved, with its run.json")
parser.add_argument("repo_id", help="OWNER/NAME on the Hub")
parser.add_argument("folder", help="gets the publication; empty or absent")
parser.add_argument("--send", action="store_true", help="send it; without, nothing leaves this machine")
args = parser.parse_args()

# Gaps, such as a license that nobody has stated, are allowed in what stays here; the manifest names them.
publication = stage_publication(args.checkpoint, args.repo_id, args.folder, allow_incomplete=not args.send)
print(*publication.notes, sep="\n")
report = verify(args.folder)
print(report)
if not report.passed:
    sys.exit(1)

if args.send:
    from huggingface_hub import HfApi

    from transformers_llava.hub.upload.plan import plan_publication
    from transformers_llava.hub.upload.publish import publish

    api = HfApi(library_name="transformers-llava")
    plan = plan_publication(publication, args.repo_id, api)
    print(plan)
    tag = publish(plan, api, say=print)
    print(f"anybody can check it: llava verify {args.repo_id} --revision {tag}")

"""The form that downloads a network of torchvision or timm by its name."""

import streamlit as st

from pages.parts import links, progress
from pages.parts.frame import home, plain
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.networks import library
from sparse_core.specs.checkpoints import StructureSpec

HELP = (
    "Every CNN of torchvision, and after timm/ those of timm. Other weights than the usual ones are named after a dot, such as "
    "resnet50.IMAGENET1K_V2 or timm/resnet50d.ra2_in1k."
)


def show() -> None:
    """The form; below it the download that the link names."""
    with st.form("network_form", border=False), st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.selectbox(
            "Network",
            library.downloadable(),
            index=None,
            key="network",
            placeholder="Choose or type a name, such as resnext50_32x4d",
            accept_new_options=True,
            help=HELP,
            width=430,
        )
        if st.form_submit_button("Download", icon=":material/download:") and name:
            st.query_params["fetch"] = queue.submit(home(), Job("structure", StructureSpec(name.strip())))
    st.caption(
        "Its ImageNet weights come from the library's own server. Nothing else is downloaded, and nothing is sent."
    )
    status = progress.linked_job("structure", parameter="fetch", advice="Download the network again.")
    if status is None:
        return
    fetched = plain(status.job.spec.backbone)
    if not status.ended:
        progress.wait_for(status.job_id)
    elif status.state == "done":
        st.success(f"“{fetched}” can be chosen on every page.", icon=":material/check:")
        links.backbone_links(status.job.spec.backbone)
    else:
        st.error(plain(status.message))

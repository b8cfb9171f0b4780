"""From a dataset to a configuration that trains on it: ``lfm-policy init``."""

from __future__ import annotations

from lfm_policy.proposal.proposal import Proposal, ProposalOptions, propose

__all__ = ["Proposal", "ProposalOptions", "propose"]

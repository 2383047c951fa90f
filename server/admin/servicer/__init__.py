"""AdminService on the wire: read the request, ask the service, write the response; one file per kind of work."""

from server.admin.audit import Audit
from server.admin.indexes import IndexService
from server.admin.operations import Operations
from server.admin.overview import Overview
from server.admin.recovery.service import Imports
from server.admin.service import AdminService
from server.admin.servicer.indexes import IndexesServicing
from server.admin.servicer.insight import InsightServicing
from server.admin.servicer.money import MoneyServicing
from server.admin.servicer.operations import OperationsServicing
from server.admin.servicer.people import PeopleServicing
from server.admin.servicer.recovery import RecoveryServicing
from server.admin.servicer.sources import SourcesServicing
from server.admin.syncs import Syncs
from server.auth.directory import UserDirectory
from server.ingestion.sources.service import SourceService
from server.wallet.credits import CreditService


class AdminServicer(
    PeopleServicing,
    MoneyServicing,
    SourcesServicing,
    IndexesServicing,
    RecoveryServicing,
    OperationsServicing,
    InsightServicing,
):
    """All of AdminService; each part declares the services it asks."""

    def __init__(
        self,
        service: AdminService,
        directory: UserDirectory,
        credits: CreditService,
        sources: SourceService,
        syncs: Syncs,
        indexes: IndexService,
        imports: Imports,
        operations: Operations,
        audit: Audit,
        overview: Overview,
    ) -> None:
        self._service = service
        self._directory = directory
        self._credits = credits
        self._sources = sources
        self._syncs = syncs
        self._indexes = indexes
        self._imports = imports
        self._operations = operations
        self._audit = audit
        self._overview = overview

"""A CRM export with its own names and traps, mapped by YAML alone.

    python examples/crm_export.py [--folder crm-export]

Writes a small export as Salesforce names its objects, a configuration that maps it, and shows the canonical tables that
come out.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from partnerml import Ecosystem

FILES = {
    "Account.csv": """\
Id,Name,IsPartner,IsDeleted,BillingCountry,BillingState,Verticals__c,Partner_Since__c,Partner_Left__c
001Gb000003KxQrIAK,Nordlicht Systeme GmbH,true,false,Germany,Bayern,Manufacturing;Healthcare,2022-11-02,
001Gb000003kxqRIAQ,"Summit Integrators, Inc.",true,false,United States,California,Healthcare,2023-01-20,
001Gb000003NmWeIAK,Former Partner SA,true,false,France,,,2021-03-01,2023-02-28
001Gb00000GoneAIAC,Entered Twice Ltd,true,true,United Kingdom,,,2021-05-01,
001Gb00000CustAIAS,A Customer,false,false,Namibia,,,,
""",
    # 15 characters in PartnerAccountId; CloseDate of an open opportunity is the expected date
    "Opportunity.csv": """\
Id,IsDeleted,PartnerAccountId,Amount,CurrencyIsoCode,IsClosed,IsWon,CreatedDate,CloseDate,SystemModstamp
006Gb00000A0000IAB,false,001Gb000003KxQr,1000.00,EUR,true,true,2023-02-01T09:15:00.000+0000,2023-02-21,2024-05-30T02:14:07.000+0000
006Gb00000A0001IAB,false,001Gb000003kxqR,2500.00,USD,true,false,2023-02-15T10:22:00.000+0000,2023-03-20,2024-05-30T02:14:07.000+0000
006Gb00000A0002IAB,false,001Gb000003KxQr,4000.00,EUR,false,false,2023-03-01T10:22:00.000+0000,2023-09-30,2024-05-30T02:14:07.000+0000
""",
    "User.csv": """\
Id,AccountId,UserType
005Gb000001UsrAIAS,001Gb000003KxQrIAK,PowerPartner
005Gb000001OwnrAAE,,Standard
""",
    "LoginHistory.csv": """\
Id,UserId,LoginTime,Status
0YaGb0000000001KAA,005Gb000001UsrAIAS,2023-01-10T07:30:00.000+0000,Success
0YaGb0000000002KAA,005Gb000001OwnrAAE,2023-01-13T07:30:00.000+0000,Success
0YaGb0000000003KAA,005Gb000001UsrAIAS,2023-01-13T07:31:00.000+0000,Invalid Password
""",
}

CONFIG = """\
data:
  source: exports/
  currency: {to: EUR, rates: {USD: 0.9}}
  tables:
    partners:
      from: Account
      where: IsPartner and not IsDeleted
      columns:
        partner_id: Id
        name: Name
        joined_at: Partner_Since__c
        left_at: Partner_Left__c
        country: {expr: country(BillingCountry)}
        region: {expr: "region(BillingCountry, BillingState)"}
        verticals: {expr: lower(Verticals__c)}
    deals:
      from: Opportunity
      where: not IsDeleted
      lag: 1d                                         # SystemModstamp is a mass update, and no recording time
      columns:
        deal_id: Id
        partner_id: {expr: id18(PartnerAccountId)}    # 15 characters here, 18 in Account
        registered_at: CreatedDate
        outcome: {expr: "case when IsWon then 'won' when IsClosed then 'lost' else 'open' end"}
        closed_at: {expr: "case when IsClosed then CloseDate end"}
        expected_close_at: {expr: "case when not IsClosed then CloseDate end"}
        amount: Amount
        currency: CurrencyIsoCode
    events:                                           # a login knows its user only, and the user its account
      lag: 1d
      sql: |
        select l.Id as event_id, u.AccountId as partner_id, l.LoginTime as occurred_at, 'portal_login' as event_type
        from LoginHistory l join User u on l.UserId = u.Id
        where u.UserType = 'PowerPartner' and l.Status = 'Success'
"""


def write(folder: Path) -> Path:
    """Write the export and its configuration."""
    exports = folder / "exports"
    exports.mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        (exports / name).write_text(text, encoding="utf-8")
    config = folder / "partnerml.yaml"
    config.write_text(CONFIG, encoding="utf-8")
    return config


def show(config: Path) -> None:
    """Print what validation says, and the canonical tables."""
    with Ecosystem.open(config) as eco:
        print(eco.validate().text())
        for name in eco.tables:
            print(f"\n{name}")
            print(eco.table(name).to_pandas().to_string(index=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to write the export; by default a folder that is removed")
    folder = parser.parse_args().folder
    if folder is not None:
        show(write(folder))
        return
    with tempfile.TemporaryDirectory() as temporary:
        show(write(Path(temporary)))


if __name__ == "__main__":
    main()

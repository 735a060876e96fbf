"""Writes the sample beside it: made-up rows under the file and column names of Olist's public data.

Run it by hand after a change: ``python tests/samples/olist/make.py``.
"""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent
SELLERS, SIGNED, LEADS = 60, 20, 80
STATES = ("SP", "RJ", "MG", "PR", "BA")
CATEGORIES = {"beleza_saude": "health_beauty", "esporte_lazer": "sports_leisure", "moveis": "furniture"}


def key(*parts: object) -> str:
    return hashlib.md5("/".join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()


def order_items(rng: np.random.Generator) -> pd.DataFrame:
    start, end = pd.Timestamp("2017-01-05"), pd.Timestamp("2018-09-01")
    rows = []
    for seller in range(SELLERS):
        pace = rng.gamma(2.0, 8.0) + 2  # days between orders
        gone = start + pd.Timedelta(days=float(rng.exponential(500)) + 40)
        moment = start + pd.Timedelta(days=float(rng.uniform(0, 200)))
        while moment < min(gone, end):
            order = key("order", len(rows))
            for item in range(1 + int(rng.random() < 0.1)):
                product = key("product", rng.integers(30))
                price = float(np.round(rng.lognormal(4, 0.8), 2))
                rows.append((order, item + 1, product, key("seller", seller), moment.floor("s"), price, 9.9))
            moment += pd.Timedelta(days=float(rng.exponential(pace)))
    # the stray tail of the real file: sales after the dense data end, some of them years later
    for moment in ("2018-09-12 10:00:00", "2020-02-03 20:11:01", "2020-04-09 22:35:08"):
        late = (key("order", moment), 1, key("product", 1), key("seller", 1), pd.Timestamp(moment), 42.0, 9.9)
        rows.append(late)
    names = ["order_id", "order_item_id", "product_id", "seller_id", "shipping_limit_date", "price", "freight_value"]
    return pd.DataFrame(rows, columns=names)


def main() -> None:
    rng = np.random.default_rng(0)
    items = pa.Table.from_pandas(order_items(rng), preserve_index=False)
    # zoned nanoseconds, as in the real file
    zoned = items.column("shipping_limit_date").cast(pa.timestamp("ns")).cast(pa.timestamp("ns", tz="UTC"))
    items = items.set_column(4, "shipping_limit_date", zoned)
    pq.write_table(items.replace_schema_metadata(None), HERE / "olist_order_items.parquet", compression="zstd")

    sellers = pd.DataFrame(
        {
            "seller_id": [key("seller", i) for i in range(SELLERS)],
            "seller_zip_code_prefix": [f"{1000 + 371 * i:05d}" for i in range(SELLERS)],
            "seller_city": ["são paulo" if i % 2 else "rio de janeiro" for i in range(SELLERS)],
            "seller_state": [STATES[i % len(STATES)] for i in range(SELLERS)],
        }
    )
    sellers.to_csv(HERE / "olist_sellers_dataset.csv", index=False)

    products = pd.DataFrame({"product_id": [key("product", i) for i in range(30)]})
    # one category without a translation, one product without a category
    names = [*CATEGORIES, "pc_gamer", None]
    products["product_category_name"] = [names[i % len(names)] for i in range(30)]
    with gzip.GzipFile(HERE / "olist_products_category.csv.gz", "wb", mtime=0) as stream:
        stream.write(products.to_csv(index=False).encode())
    pairs = "".join(f"{name},{english}\n" for name, english in CATEGORIES.items())
    header = "product_category_name,product_category_name_english\n"
    (HERE / "product_category_name_translation.csv").write_text("\ufeff" + header + pairs, encoding="utf-8")

    contact = pd.Timestamp("2017-10-01") + pd.to_timedelta(rng.integers(0, 240, LEADS), unit="D")
    leads = pd.DataFrame(
        {
            "mql_id": [key("lead", i) for i in range(LEADS)],
            "first_contact_date": contact.strftime("%Y-%m-%d"),
            "landing_page_id": [key("page", i % 4) for i in range(LEADS)],
            "origin": [("social", "paid_search", "organic_search", None)[i % 4] for i in range(LEADS)],
        }
    )
    leads.to_csv(HERE / "olist_marketing_qualified_leads_dataset.csv", index=False)

    won = contact[:SIGNED].where(contact[:SIGNED] > "2017-12-05", pd.Timestamp("2017-12-05"))
    won = won + pd.to_timedelta(rng.integers(3600, 40 * 86400, SIGNED), unit="s")
    closed = pd.DataFrame(
        {
            "mql_id": [key("lead", i) for i in range(SIGNED)],
            # half of the signed never sell and are in no list of sellers
            "seller_id": [key("seller", SELLERS - SIGNED // 2 + i) for i in range(SIGNED)],
            "sdr_id": [key("sdr", i % 3) for i in range(SIGNED)],
            "sr_id": [key("sr", i % 2) for i in range(SIGNED)],
            "won_date": won.strftime("%Y-%m-%d %H:%M:%S"),
            "business_segment": [("pet", "car_accessories", "home_decor")[i % 3] for i in range(SIGNED)],
            "lead_type": [("online_medium", "industry", "online_big")[i % 3] for i in range(SIGNED)],
            "lead_behaviour_profile": [("cat", "eagle", None)[i % 3] for i in range(SIGNED)],
            "has_company": [None] * SIGNED,
            "has_gtin": [None] * SIGNED,
            "average_stock": [None] * SIGNED,
            "business_type": ["reseller"] * SIGNED,
            "declared_product_catalog_size": [100.0 if i % 5 == 0 else None for i in range(SIGNED)],
            "declared_monthly_revenue": [0.0] * SIGNED,
        }
    )
    closed.to_csv(HERE / "olist_closed_deals_dataset.csv", index=False)


if __name__ == "__main__":
    main()
